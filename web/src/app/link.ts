/** Whether a click on a link means "here", and not "in another tab". */
export const isPlainClick = (event: { metaKey: boolean; ctrlKey: boolean; shiftKey: boolean; button: number }): boolean =>
  !event.metaKey && !event.ctrlKey && !event.shiftKey && event.button === 0;
