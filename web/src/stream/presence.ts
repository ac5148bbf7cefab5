/** When a page may hold a connection only to be told of changes. */

/**
 * Runs the work while the page can be seen, and ends it while it can't: a browser allows six connections to one server,
 * over all of its tabs. A page that comes into sight again, or whose network does, begins anew at once.
 */
export function whileInSight(work: (signal: AbortSignal) => Promise<void>): () => void {
  let running: AbortController | null = null;
  const end = () => {
    running?.abort();
    running = null;
  };
  const begin = () => {
    end();
    if (document.visibilityState === "hidden") return;
    running = new AbortController();
    void work(running.signal);
  };
  document.addEventListener("visibilitychange", begin);
  window.addEventListener("online", begin);
  begin();
  return () => {
    end();
    document.removeEventListener("visibilitychange", begin);
    window.removeEventListener("online", begin);
  };
}
