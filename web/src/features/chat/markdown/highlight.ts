/** Colours for code, loaded when the first code block needs them. Classes only: no inline styles. */

import type { Root } from "hast";
import { toJsxRuntime } from "hast-util-to-jsx-runtime";
import { createLowlight } from "lowlight";
import type { ReactNode } from "react";
import { Fragment, jsx, jsxs } from "react/jsx-runtime";
import { grammarOf } from "./grammars";

const lowlight = createLowlight();

/** Null for a language that we don't know: the code stays plain. */
export async function highlight(code: string, language: string): Promise<ReactNode | null> {
  const grammar = grammarOf(language);
  if (grammar === null) return null;
  if (!lowlight.registered(grammar.name)) lowlight.register(grammar.name, (await grammar.load()).default);
  const tree: Root = lowlight.highlight(grammar.name, code);
  return toJsxRuntime(tree, { Fragment, jsx, jsxs });
}
