import { memo } from "react";

export const UserMessage = memo(function UserMessage({ text, isNew = false }: { text: string; isNew?: boolean }) {
  return (
    <article className={`flex flex-col items-end ${isNew ? "animate-arrive" : ""}`}>
      <h2 className="sr-only">You said</h2>
      <div className="max-w-[85%] rounded-3xl rounded-br-lg bg-bubble px-4 py-2.5 leading-relaxed wrap-anywhere whitespace-pre-wrap">
        {text}
      </div>
    </article>
  );
});
