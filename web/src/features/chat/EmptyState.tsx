import { Logo } from "../../ui/Icon";

const SUGGESTIONS = [
  { title: "Explain an idea", text: "Explain a KV cache in two sentences." },
  { title: "Draft a note", text: "Write a short, friendly note to thank a colleague for a code review." },
  { title: "Write some code", text: "Write a Python function that tells whether a word is a palindrome." },
  { title: "Plan something", text: "Plan a quiet weekend in a city by the sea." },
];

export function EmptyState({ onPick }: { onPick: (text: string) => void }) {
  return (
    <div className="mx-auto flex w-full flex-1 max-w-3xl flex-col items-center justify-center px-4 py-8">
      <Logo className="size-11" />
      <h1 className="mt-5 text-center text-2xl font-semibold tracking-tight text-balance md:text-[1.75rem]">What’s on your mind?</h1>
      <ul aria-label="Suggestions" className="mt-8 grid w-full gap-2.5 sm:grid-cols-2">
        {SUGGESTIONS.map(({ title, text }) => (
          <li key={title}>
            <button
              type="button"
              onClick={() => onPick(text)}
              className="flex h-full w-full flex-col justify-start rounded-2xl border border-line px-4 py-3 text-left text-sm transition-colors hover:border-line-strong hover:bg-raised"
            >
              <span className="block font-medium">{title}</span>
              <span className="mt-0.5 block text-muted">{text}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
