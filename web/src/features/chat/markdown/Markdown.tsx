/** An answer's Markdown. Loaded when the first answer is shown; each section renders again only if its text changes. */

import type { Element } from "hast";
import { createContext, memo, useContext, useMemo, useRef } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import remend from "remend";
import { createSectioner } from "../../stream/sections";
import { CodeBlock } from "./CodeBlock";

const plugins = [remarkGfm];
const IsGrowing = createContext(false);

function textIn(node: Element["children"][number]): string {
  if (node.type === "text") return node.value;
  return node.type === "element" ? node.children.map(textIn).join("") : "";
}

function Pre({ node }: { node?: Element | undefined }) {
  const isGrowing = useContext(IsGrowing);
  const code = node?.children[0];
  if (code?.type !== "element") return null;
  const classes = code.properties.className;
  const marked = Array.isArray(classes) ? classes.find((name) => String(name).startsWith("language-")) : undefined;
  const language = String(marked ?? "").slice("language-".length);
  return <CodeBlock code={textIn(code).replace(/\n$/, "")} language={language} isGrowing={isGrowing} />;
}

const components: Components = {
  pre: Pre,
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  // A picture from elsewhere would tell its host who reads what; it becomes a link that one may follow.
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noopener noreferrer nofollow">
      {alt || "picture"}
    </a>
  ),
  input: ({ checked }) => <input type="checkbox" checked={checked ?? false} disabled aria-label={checked ? "Done" : "To do"} />,
  table: ({ children }) => (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
};

const Section = memo(function Section({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  // A half-written `**bold` or link is shown as what it is about to be.
  const source = isGrowing ? remend(text) : text;
  return (
    <IsGrowing value={isGrowing}>
      <section>
        <ReactMarkdown remarkPlugins={plugins} components={components}>
          {source}
        </ReactMarkdown>
      </section>
    </IsGrowing>
  );
});

/** `text` only ever grows by its end; anything else starts over. */
function useSections(text: string): readonly string[] {
  const seen = useRef({ text: "", sectioner: createSectioner() });
  return useMemo(() => {
    if (!text.startsWith(seen.current.text)) seen.current.sectioner = createSectioner();
    seen.current.text = text;
    return seen.current.sectioner.update(text);
  }, [text]);
}

export default function Markdown({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  const sections = useSections(text);
  return (
    <div className="prose">
      {sections.map((section, index) => (
        // Sections never move: their place is their identity.
        <Section key={index} text={section} isGrowing={isGrowing && index === sections.length - 1} />
      ))}
    </div>
  );
}
