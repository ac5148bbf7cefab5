import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { showChosenLanguage } from "./app/i18n";
import { registerServiceWorker } from "./app/serviceWorker";
import "./app/styles.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
// It waits for the page's load event, which may be over once the language is there.
registerServiceWorker();
await showChosenLanguage();
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
