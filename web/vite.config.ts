import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` shows the page with hot reload and speaks to a server that `triplane serve` started.
const api = process.env.TRIPLANE_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    outDir: "dist",
    // The page, and the frame that draws diagrams.
    rollupOptions: { input: ["index.html", "diagram.html"] },
    // An inlined asset would be a data: address, which the content security policy refuses for scripts and fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: Object.fromEntries(["/v1", "/sign-in"].map((path) => [path, { target: api, changeOrigin: false }])),
  },
});
