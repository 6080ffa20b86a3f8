import express from "express";
import jwt from "jsonwebtoken";

const { GREENROOM_URL = "http://localhost:8000", GREENROOM_SECRET, GREENROOM_API_KEY, PORT = 5000 } = process.env;
const customers = { 5: "7" };
const app = express();

app.get("/token", (request, response) => {
  const user_id = "7";                                        // whoever is signed in to your application
  response.type("text").send(jwt.sign({ sub: user_id }, GREENROOM_SECRET, { expiresIn: "1h" }));
});

app.get("/", (request, response) => response.sendFile("page.html", { root: "." }));

app.post("/orders/:order_id/status", async ({ params: { order_id }, query: { status } }, response) => {
  const answer = await fetch(`${GREENROOM_URL}/api/rooms/user_${customers[order_id]}/messages`, {
    method: "POST",
    headers: { Authorization: `Bearer ${GREENROOM_API_KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify({ type: "order_update", order_id, status }),
    signal: AbortSignal.timeout(2000),
  });
  if (!answer.ok) throw new Error(`not published: ${answer.status}`);
  response.json({ order_id, status });
});

const server = app.listen(PORT, "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`http://127.0.0.1:${server.address().port}`);
});
