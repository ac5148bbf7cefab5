/** Has the browser save what an address of ours answers with; the server names the file. */
export function download(path: string): void {
  const link = document.createElement("a");
  link.href = path;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}
