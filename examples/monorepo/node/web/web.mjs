import { createServer } from "node:http";

import { page } from "./page.mjs";

/** The service: `GET /?title=…&summary=…` is the page of that article. */
export const server = createServer((request, response) => {
  const { searchParams } = new URL(request.url, "http://web");
  const article = { title: searchParams.get("title") ?? "Untitled", summary: searchParams.get("summary") ?? "" };
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(page(article));
});
