import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { showChosenLanguage } from "./app/i18n";
import "./app/styles.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
await showChosenLanguage();
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
