// Decides about a divergence as a person would, and as another site would like to, and prints what
// the browser saw as JSON.
//
// Standard input: { "url", "path", "reader", "admin", "why" }; `reader` and `admin` are tokens.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { launch, open } from "./browser.mjs";

const { url, path, reader, admin, why } = JSON.parse(readFileSync(0, "utf8"));
const seen = {};
const browser = await launch();

{
  const { context, page } = await open(browser, {});
  await page.goto(url + path);
  seen.strangerHasForm = (await page.locator("main form").count()) > 0;
  await page.keyboard.press("Tab");
  seen.firstFocus = await page.evaluate(() => document.activeElement.textContent);
  await logIn(page, "opamkeep_nobody");
  seen.wrongToken = await page.locator("[role=alert]").textContent();
  await logIn(page, reader);
  await page.goto(url + path);
  seen.readerHasForm = (await page.locator("main form").count()) > 0;
  await context.close();
}

const { context, page, complaints } = await open(browser, {});
await page.goto(url + path);
await page.getByRole("link", { name: "Log in", exact: true }).first().click();
await page.getByLabel("Token").fill(admin);
await page.keyboard.press("Enter");
await page.waitForURL(url + path);
seen.user = await page.locator("form.user span").textContent();
seen.cookies = (await context.cookies()).map(({ secure, httpOnly, sameSite }) => {
  return { secure, httpOnly, sameSite };
});

// Another site has the logged-in browser send the same form, with and without a key.
const form = (key) => `<form method="post" action="${url}${path}">
<input name="action" value="accept"><input name="form_key" value="${key}"></form>
<script>document.forms[0].submit()</script>`;
const other = createServer((request, response) => {
  response.setHeader("content-type", "text/html");
  response.end(form(new URL(request.url, "http://x").searchParams.get("key") ?? ""));
});
await new Promise((ready) => other.listen(0, "127.0.0.1", ready));
const key = await page.locator("main form [name=form_key]").getAttribute("value");
seen.elsewhere = [];
for (const query of ["", `?key=${encodeURIComponent(key)}`]) {
  const tab = await context.newPage();
  const sent = tab.waitForResponse((response) => response.url() === url + path);
  await tab.goto(`http://127.0.0.1:${other.address().port}/${query}`);
  seen.elsewhere.push((await sent).status());
  await tab.close();
}
other.close();

complaints.length = 0;
await page.reload();
await page.getByLabel("Why").fill(why);
await page.getByRole("button", { name: /^Accept/ }).focus();
await page.keyboard.press("Enter");
await page.waitForURL(/done=/);
seen.notice = await page.locator("[role=status]").textContent();
seen.state = await page.locator("main .state").first().textContent();
seen.decisions = await page.locator("main li").allTextContents();
await page.getByRole("button", { name: "Log out" }).click();
await page.goto(url + path);
seen.loggedOutHasForm = (await page.locator("main form").count()) > 0;
seen.complaints = complaints;
await browser.close();
console.log(JSON.stringify(seen));

async function logIn(page, token) {
  await page.goto(`${url}/login?to=${encodeURIComponent(path)}`);
  await page.getByLabel("Token").fill(token);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
}
