/** What the elements of an answer become. */

import type { Element, ElementContent } from "hast";
import { createContext } from "react";
import type { Components } from "react-markdown";
import { t } from "../../../app/i18n";
import { Picture } from "./Picture";
import { Table } from "./Table";

export const IsGrowing = createContext(false);

export function textIn(node: ElementContent): string {
  if (node.type === "text") return node.value;
  return node.type === "element" ? node.children.map(textIn).join("") : "";
}

/** The name behind the fence; "math" for a formula. */
export function languageOf(code: Element): string {
  const classes = code.properties.className;
  const marked = Array.isArray(classes) ? classes.find((name) => String(name).startsWith("language-")) : undefined;
  return String(marked ?? "").slice("language-".length);
}

export const components: Components = {
  a: ({ node: _, href, children, ...rest }) => {
    if (!href) return <span>{children}</span>;
    // A footnote and the way back.
    if (href.startsWith("#")) return <a href={href} {...rest}>{children}</a>;
    return (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {children}
      </a>
    );
  },
  img: ({ src, alt }) => <Picture src={typeof src === "string" ? src : ""} alt={alt ?? ""} />,
  input: ({ checked }) => <input type="checkbox" checked={checked ?? false} disabled aria-label={t(checked ? "chat:taskDone" : "chat:taskToDo")} />,
  table: ({ children }) => <Table>{children}</Table>,
};
