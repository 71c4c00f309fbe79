import assert from "node:assert/strict";
import { test } from "node:test";

import { fill } from "./template.mjs";

test("names are filled in, and unknown ones stay", () => {
  assert.equal(fill("{a} and {b}", { a: 1 }), "1 and {b}");
});

test("values cannot become markup", () => {
  assert.equal(fill("{a}", { a: "<b>" }), "&#60;b&#62;");
});
