// Debian's Chromium without a window, and what it complains about.

import { chromium } from "playwright-core";

export async function launch() {
  return chromium.launch({
    executablePath: process.env.OPAM_KEEP_CHROMIUM ?? "/usr/bin/chromium",
    // Containers rarely allow what its sandbox needs; it only ever sees pages of the test.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
}

// A page that notes everything that should not happen on it.
export async function open(browser, options) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", async (dialog) => {
    complaints.push(`a dialog opened: ${dialog.message()}`);
    await dialog.dismiss();
  });
  return { context, page, complaints };
}
