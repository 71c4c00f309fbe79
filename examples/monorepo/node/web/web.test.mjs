import assert from "node:assert/strict";
import { test } from "node:test";

import { page } from "./page.mjs";
import { server } from "./web.mjs";

test("a page has the title and what there is room for", () => {
  const html = page({ title: "A & B", summary: "x".repeat(300) });
  assert.match(html, /<h1>A &#38; B<\/h1>/);
  assert.match(html, /<p>x{279}…<\/p>/);
});

test("the service answers", async (context) => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  const response = await fetch(`http://127.0.0.1:${server.address().port}/?title=Hello`);
  assert.match(await response.text(), /<title>Hello<\/title>/);
});
