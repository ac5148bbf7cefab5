export { default as admin } from "./admin.json";
export { default as app } from "./app.json";
export { default as chat } from "./chat.json";
export { default as history } from "./history.json";
export { default as palette } from "./palette.json";
export { default as settings } from "./settings.json";
