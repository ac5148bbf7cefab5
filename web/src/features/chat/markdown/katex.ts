/** KaTeX with its style and its fonts, which come from our own server. */

import katex from "katex";
import "katex/dist/katex.min.css";

export default katex;
