import { fill } from "template";

import { summary as limit } from "./limits.mjs";

const PAGE = `<!doctype html>
<title>{title}</title>
<h1>{title}</h1>
<p>{summary}</p>
`;

/** Renders the page of an article. */
export function page({ title, summary }) {
  const short = summary.length > limit ? `${summary.slice(0, limit - 1)}…` : summary;
  return fill(PAGE, { title, summary: short });
}
