// Opens every page of a mirror in light and dark, on a desk and on a phone, and prints what is
// wrong with them as a JSON list. Screenshots go to a folder.
//
// Standard input: { "url", "screenshots", "paths": [{ "path", "status" }] }.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { launch, open } from "./browser.mjs";

const { url, screenshots, paths } = JSON.parse(readFileSync(0, "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const widths = { desk: { width: 1280, height: 800 }, phone: { width: 360, height: 740 } };
const problems = [];

const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  for (const [device, viewport] of Object.entries(widths)) {
    const { context, page, complaints } = await open(browser, { colorScheme, viewport });
    for (const { path, status } of paths) {
      const where = `${path} (${colorScheme}, ${device})`;
      const complain = (text) => problems.push(`${where}: ${text}`);
      complaints.length = 0;
      const response = await page.goto(url + path, { waitUntil: "load" });
      if (response.status() !== status) complain(`status ${response.status()}, not ${status}`);
      const own = complaints.filter((text) => status < 400 || !text.includes("Failed to load"));
      own.forEach(complain);
      if (!/html/.test(response.headers()["content-type"] ?? "")) continue;
      (await page.evaluate(lookForText)).forEach(complain);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      for (const { id, impact, help, nodes } of violations) {
        if (!["serious", "critical"].includes(impact)) continue;
        complain(`${id}, ${impact}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
      }
      const name = path.replace(/[^a-z0-9.]+/gi, "-").replace(/^-|-$/g, "") || "home";
      const file = `${name}-${colorScheme}-${device}.png`;
      await page.screenshot({ path: join(screenshots, file), fullPage: true });
    }
    await context.close();
  }
}
await browser.close();
console.log(JSON.stringify(problems));

// Runs in the page: text that nobody can read, and scripts.
function lookForText() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    found.push(`it is ${root.scrollWidth} wide on ${root.clientWidth}`);
  }
  for (const element of document.body.querySelectorAll("*")) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const hides = ["hidden", "clip"];
    // One hides until it has the focus, the other scrolls as one types.
    const mayHide = element.matches(".skip, input, textarea");
    const wide = hides.includes(overflowX) && element.scrollWidth > element.clientWidth + 1;
    const high = hides.includes(overflowY) && element.scrollHeight > element.clientHeight + 1;
    if (!mayHide && (wide || high)) found.push(`text is cut off in ${element.outerHTML.slice(0, 80)}`);
    const inline = [...element.attributes].some(({ name }) => name.startsWith("on"));
    if (inline || element.hasAttribute("style")) found.push(`${element.tagName} has code in it`);
  }
  if (document.scripts.length > 0) found.push("there is a script");
  if (document.querySelector("main") === null) found.push("there is no main part");
  return found;
}
