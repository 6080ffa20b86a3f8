export { connect } from "./connect.js";
export * from "./types.js";
