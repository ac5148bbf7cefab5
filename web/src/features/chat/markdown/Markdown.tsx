/** An answer's Markdown. Loaded when the first answer is shown; each section renders again only if its text changes. */

import { createContext, memo, useContext, useMemo, useRef } from "react";
import ReactMarkdown, { defaultUrlTransform, type Options } from "react-markdown";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { createSectioner, fencedIn, hasDefinitions } from "../../../stream/sections";
import { CodeBlock } from "./CodeBlock";
import { Diagram } from "./Diagram";
import { markFormulas } from "./formulas";
import { completed } from "./growing";
import { Maths } from "./Maths";
import { components, IsGrowing, languageOf, textIn } from "./parts";

const plugins: Options["remarkPlugins"] = [remarkGfm, [remarkMath, { singleDollarTextMath: false }]];
/** Sections that are settled are compared in bundles, so that a long answer has few of them. */
const BUNDLE = 24;
const Name = createContext("");

const all: Options["components"] = {
  ...components,
  pre: function Pre({ node }) {
    const isGrowing = useContext(IsGrowing);
    const code = node?.children[0];
    if (code?.type !== "element") return null;
    const language = languageOf(code);
    if (language === "math") return <Maths tex={textIn(code)} isDisplay isGrowing={isGrowing} />;
    return <Fence code={textIn(code).replace(/\n$/, "")} language={language} isGrowing={isGrowing} />;
  },
  code: function Code({ node, className, children }) {
    const isGrowing = useContext(IsGrowing);
    if (!node || languageOf(node) !== "math") return <code className={className}>{children}</code>;
    return <Maths tex={textIn(node)} isDisplay={false} isGrowing={isGrowing} />;
  },
};

function Fence({ code, language, isGrowing }: { code: string; language: string; isGrowing: boolean }) {
  if (language === "mermaid") return <Diagram source={code} isGrowing={isGrowing} />;
  return <CodeBlock code={code} language={language} isGrowing={isGrowing} />;
}

/** An address that names another place than this one, or a picture that carries itself. */
const urlOf: Options["urlTransform"] = (url, key) =>
  key === "src" && /^data:image\/(?:png|jpeg|gif|webp|avif);/i.test(url) ? url : defaultUrlTransform(url);

const Section = memo(function Section({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  const name = useContext(Name);
  const fenced = fencedIn(text);
  if (fenced) {
    const { code, language, isClosed } = fenced;
    return (
      <section>
        <Fence code={code} language={language} isGrowing={isGrowing && !isClosed} />
      </section>
    );
  }
  const source = markFormulas(text, isGrowing);
  return (
    <IsGrowing value={isGrowing}>
      <section>
        <ReactMarkdown
          remarkPlugins={plugins}
          // Every answer has a footnote 1.
          remarkRehypeOptions={{ clobberPrefix: `${name}-` }}
          components={all}
          urlTransform={urlOf}
        >
          {isGrowing ? completed(source) : source}
        </ReactMarkdown>
      </section>
    </IsGrowing>
  );
});

const Bundle = memo(
  function Bundle(props: BundleProps) {
    const { sections, from, growing } = props;
    // Laid out only near the screen, once the answer goes on well below it.
    return (
      <div className={isPast(props) ? "lay-out-late" : ""}>
        {sections.slice(from, from + BUNDLE).map((text, index) => (
          <Section key={from + index} text={text} isGrowing={from + index === growing} />
        ))}
      </div>
    );
  },
  (before, after) => {
    if (before.growing !== after.growing && (isIn(before) || isIn(after))) return false;
    if (isPast(before) !== isPast(after)) return false;
    for (let at = after.from; at < after.from + BUNDLE; at++) if (before.sections[at] !== after.sections[at]) return false;
    return true;
  },
);

interface BundleProps {
  sections: readonly string[];
  from: number;
  /** The place of the section that is being written; -1 for none. */
  growing: number;
}

const isIn = ({ from, growing }: BundleProps): boolean => growing >= from && growing < from + BUNDLE;
const isPast = ({ sections, from }: BundleProps): boolean => sections.length > from + 2 * BUNDLE;

/** `text` only ever grows by its end; anything else starts over. */
function useSections(text: string, isGrowing: boolean): readonly string[] {
  const seen = useRef({ text: "", sectioner: createSectioner() });
  return useMemo(() => {
    // A definition may stand anywhere: what it defines is seen once the text is finished.
    if (!isGrowing && hasDefinitions(text)) return [text];
    if (!text.startsWith(seen.current.text)) seen.current.sectioner = createSectioner();
    seen.current.text = text;
    return seen.current.sectioner.update(text);
  }, [text, isGrowing]);
}

interface MarkdownProps {
  /** Names the answer within the page. */
  name: string;
  text: string;
  isGrowing: boolean;
}

export default function Markdown({ name, text, isGrowing }: MarkdownProps) {
  const sections = useSections(text, isGrowing);
  const starts = Array.from({ length: Math.ceil(sections.length / BUNDLE) }, (_, bundle) => bundle * BUNDLE);
  return (
    <Name value={name}>
      <div className="prose">
        {starts.map((from) => (
          // Sections never move: their place is their identity.
          <Bundle key={from} sections={sections} from={from} growing={isGrowing ? sections.length - 1 : -1} />
        ))}
      </div>
    </Name>
  );
}
