/** What a language is called, where that isn't what stands behind the fence. */

const NAMES: Record<string, string> = {
  bash: "Bash",
  c: "C",
  cpp: "C++",
  "c++": "C++",
  cs: "C#",
  csharp: "C#",
  css: "CSS",
  go: "Go",
  html: "HTML",
  java: "Java",
  javascript: "JavaScript",
  js: "JavaScript",
  json: "JSON",
  jsx: "JSX",
  kotlin: "Kotlin",
  latex: "LaTeX",
  markdown: "Markdown",
  md: "Markdown",
  mermaid: "Mermaid",
  php: "PHP",
  py: "Python",
  python: "Python",
  rb: "Ruby",
  rs: "Rust",
  ruby: "Ruby",
  rust: "Rust",
  sh: "Shell",
  shell: "Shell",
  sql: "SQL",
  svg: "SVG",
  swift: "Swift",
  toml: "TOML",
  ts: "TypeScript",
  tsx: "TSX",
  typescript: "TypeScript",
  xml: "XML",
  yaml: "YAML",
  yml: "YAML",
};

/** Null where none is named. */
export function languageName(language: string): string | null {
  if (language === "" || language === "text" || language === "plaintext") return null;
  const written = language.toLowerCase();
  return Object.hasOwn(NAMES, written) ? NAMES[written]! : language;
}
