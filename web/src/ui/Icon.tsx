/** The page's icons: 20 by 20, drawn with the current colour. Always beside a label, so hidden from screen readers. */

const PATHS = {
  plus: "M10 4.5v11M4.5 10h11",
  compose: "M10.5 4.5H6A1.5 1.5 0 0 0 4.5 6v8A1.5 1.5 0 0 0 6 15.5h8a1.5 1.5 0 0 0 1.5-1.5V9.5M8.5 11.5l.4-2 6.2-6.2 1.6 1.6-6.2 6.2z",
  sidebar: "M5.5 4h9A1.5 1.5 0 0 1 16 5.5v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 4 14.5v-9A1.5 1.5 0 0 1 5.5 4ZM8 4v12",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  pencil: "m4.5 15.5.7-3.2 7.6-7.6a1.4 1.4 0 0 1 2 0l.5.5a1.4 1.4 0 0 1 0 2l-7.6 7.6z",
  trash: "M4.5 6h11M8 6V4.5h4V6M6 6l.6 9.5h6.8L14 6M8.6 8.8v4M11.4 8.8v4",
  send: "M10 15.5v-11M5.5 9 10 4.5 14.5 9",
  copy: "M7.5 7.5V5A1 1 0 0 1 8.5 4H15a1 1 0 0 1 1 1v6.5a1 1 0 0 1-1 1h-2.5M5 7.5h6.5a1 1 0 0 1 1 1V15a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V8.5a1 1 0 0 1 1-1Z",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  down: "M10 4.5v11M5.5 11l4.5 4.5 4.5-4.5",
  chevron: "m6.5 8.5 3.5 3.5 3.5-3.5",
  back: "M11.5 6 7.5 10l4 4",
  forth: "m8.5 6 4 4-4 4",
  retry: "M15.5 10A5.5 5.5 0 1 1 13.7 5.9M15.5 3.5v3h-3",
  sun: "M10 7a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM10 2.8v1.4M10 15.8v1.4M2.8 10h1.4M15.8 10h1.4M4.9 4.9l1 1M14.1 14.1l1 1M4.9 15.1l1-1M14.1 5.9l1-1",
  moon: "M15.8 11.8A6.2 6.2 0 0 1 8.2 4.2a6.2 6.2 0 1 0 7.6 7.6Z",
  system: "M4.5 4h11a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM7.5 16.2h5M10 13v3",
  signOut: "M8.5 4H5.5A1.5 1.5 0 0 0 4 5.5v9A1.5 1.5 0 0 0 5.5 16h3M12.5 6.5 16 10l-3.5 3.5M16 10H8",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4ZM12.8 12.8l3.4 3.4",
  pin: "M7.5 4h5l-.6 4.4 2.1 2.1v1h-8v-1l2.1-2.1zM10 11.5v4.5",
  archive: "M4 4.5h12v3H4zM5 7.5v8h10v-8M8.3 10.5h3.4",
  folder: "M3.5 6A1.5 1.5 0 0 1 5 4.5h3l1.6 2H15A1.5 1.5 0 0 1 16.5 8v6A1.5 1.5 0 0 1 15 15.5H5A1.5 1.5 0 0 1 3.5 14z",
  file: "M6 3.5h5.5L15 7v9.5H6zM11.5 3.5V7H15",
  select: "M4.5 4.5h11v11h-11zM7.5 10l2 2 3.5-4",
  gear: "M10 7.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6ZM10 3v2M10 15v2M3 10h2M15 10h2M5 5l1.5 1.5M13.5 13.5 15 15M5 15l1.5-1.5M13.5 6.5 15 5",
  keyboard: "M3.5 5.5h13v9h-13zM6 8.3h.01M9 8.3h.01M12 8.3h.01M14.2 8.3h.01M6.5 11.7h7",
  close: "m5.5 5.5 9 9M14.5 5.5l-9 9",
  share: "M10 12.5V3.5M6.8 6.5 10 3.5l3.2 3M5.5 10v5a1 1 0 0 0 1 1h7a1 1 0 0 0 1-1v-5",
  info: "M10 3.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM10 9.3v3.9M10 6.7v.01",
  sliders: "M4 6.5h6.5M14 6.5h2M4 13.5h2M9.5 13.5H16M12.2 4.8a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4ZM7.8 11.8a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4Z",
  temporary: "M10 4.5a5.5 5.5 0 0 1 5.5 5.5v5.5l-1.8-1.3-1.9 1.3L10 14.2l-1.8 1.3-1.9-1.3-1.8 1.3V10A5.5 5.5 0 0 1 10 4.5ZM8 9.6v.01M12 9.6v.01",
  warning: "M10 3.8 17 15.5H3zM10 8.5v3.2M10 13.6v.01",
} as const;

export type IconName = keyof typeof PATHS;

/** Mirrored where one reads from right to left. */
const POINTS_SIDEWAYS: ReadonlySet<IconName> = new Set(["back", "forth", "sidebar", "signOut"]);

export function Icon({ name, className = "size-5" }: { name: IconName; className?: string }) {
  return (
    <svg
      aria-hidden="true"
      viewBox="0 0 20 20"
      className={`shrink-0 ${POINTS_SIDEWAYS.has(name) ? "rtl:-scale-x-100" : ""} ${className}`}
      fill="none"
      stroke="currentColor"
      strokeWidth={name === "more" ? 2.2 : 1.5}
      strokeLinecap="round"
      strokeLinejoin="round"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo({ className = "size-6" }: { className?: string }) {
  return (
    <svg aria-hidden="true" viewBox="0 0 32 32" className={`shrink-0 text-accent ${className}`} fill="currentColor">
      <path d="M16 4 30 11 16 18 2 11Z" />
      <path d="M5.6 14.8 2 16.6l14 7 14-7-3.6-1.8L16 20Z" opacity=".65" />
      <path d="M5.6 20.4 2 22.2l14 7 14-7-3.6-1.8L16 25.6Z" opacity=".38" />
    </svg>
  );
}
