// A room server on Node's `ws`, as one writes it by hand: the article's protocol, tokens checked.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

// In bigger rooms only the newcomer is told that it came: see TELL_ALL in ../rooms.py.
const tellAll = 100;
const secret = process.env.SECRET_KEY;
const rooms = new Map();

function userOf(token) {
  const [header, claims, signature] = (token ?? "").split(".");
  const expected = createHmac("sha256", secret).update(`${header}.${claims}`).digest();
  const given = Buffer.from(signature ?? "", "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  const { sub, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  return exp > Date.now() / 1000 ? sub : undefined;
}

function sendToRoom(members, message) {
  const payload = JSON.stringify(message);
  for (const socket of members) socket.send(payload);
}

function take(socket, members, user, data) {
  const message = JSON.parse(data);
  if (message.type === "chat") sendToRoom(members, { type: "chat", user_id: user, text: message.text });
  else if (message.type === "ping") socket.send(JSON.stringify({ type: "pong" }));
}

function leave(socket, room, members, user) {
  members.delete(socket);
  if (members.size === 0) rooms.delete(room);
  sendToRoom(members, { type: "user_left", user_id: user });
}

const http = createServer((request, response) => response.end("ok\n"));
const server = new WebSocketServer({ server: http });

server.on("connection", (socket, request) => {
  const url = new URL(request.url, "http://localhost");
  const user = userOf(url.searchParams.get("token"));
  if (user === undefined) return socket.close(4001);
  const room = url.pathname.slice("/ws/".length);
  const members = rooms.get(room) ?? new Set();
  rooms.set(room, members.add(socket));
  socket.on("message", (data) => take(socket, members, user, data));
  socket.on("close", () => leave(socket, room, members, user));
  socket.on("error", () => {});
  const told = members.size <= tellAll ? members : [socket];
  sendToRoom(told, { type: "user_joined", user_id: user, room_size: members.size });
});

http.listen(Number(process.env.PORT), "127.0.0.1", 4096);
