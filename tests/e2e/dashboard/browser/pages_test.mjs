// Looks at the pages of a dashboard, as browser_test.py says. Ends with 0 when all is as it should be.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const BASE = process.env.ESPALIER_DASHBOARD_URL.replace(/\/$/, "");
const JOBS = JSON.parse(process.env.ESPALIER_JOBS);
const SHOTS = process.env.ESPALIER_SHOTS;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const id = (job) => job.replace("jobs/", "");
const PAGES = {
  overview: "/",
  jobs: "/jobs",
  job: `/jobs/${id(JOBS.done)}`,
  running: `/jobs/${id(JOBS.running)}`,
  hostile: `/jobs/${id(JOBS.hostile)}`,
  structure: `/jobs/${id(JOBS.done)}/structure`,
  changes: `/jobs/${id(JOBS.done)}/structure?checkpoint=${id(JOBS.done)}-20&since=${id(JOBS.done)}-10`,
  round: `/jobs/${id(JOBS.running)}/rounds`,
  workers: "/workers",
  events: "/events",
  system: "/system",
  compare: `/compare?jobs=${id(JOBS.done)},${id(JOBS.running)}`,
  playground: `/playground?job=${id(JOBS.done)}`,
  nothing: "/jobs/no-such-job",
};

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.ESPALIER_CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});
after(() => browser.close());

/** A page whose errors fail the test. Ordinary refusals of the API are no errors. */
async function opened(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: false, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource") && errors.push(message.text()));
  page.on("dialog", (dialog) => errors.push(`a dialog of the browser: ${dialog.message()}`));
  await page.goto(BASE + path);
  await page.locator("main").waitFor();
  await page.locator(".loading").first().waitFor({ state: "detached", timeout: 10_000 });
  return { page, errors, close: () => context.close() };
}

/** What a style sheet or script that the policy forbids would look like is an error of the console. */
async function checkAccess(page) {
  await page.evaluate(`(() => { ${AXE} })()`).catch(() => undefined);
  const hasAxe = await page.evaluate(() => "axe" in window);
  assert.ok(hasAxe, "axe-core could not be put into the page");
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  return found.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 160)).slice(0, 3).join(" | ")}`);
}

/** Opens every page and collects what `faultsOf` finds on it. */
async function lookAtAll(options, faultsOf) {
  const found = {};
  for (const [name, path] of Object.entries(PAGES)) {
    const { page, errors, close } = await opened(path, options);
    await page.waitForTimeout(300);
    const faults = [...(await faultsOf(page, name)), ...errors];
    if (faults.length > 0) found[name] = faults;
    await close();
  }
  assert.deepEqual(found, {});
}

for (const width of [360, 768, 1920]) {
  test(`every page fits ${width} px`, () =>
    lookAtAll({ viewport: { width, height: 900 } }, async (page, name) => {
      await page.screenshot({ path: `${SHOTS}/${name}-${width}.png`, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      return over > 0 ? [`${over} px wider than the screen`] : [];
    }));
}

for (const colorScheme of ["light", "dark"]) {
  test(`everybody can use every page in ${colorScheme}`, () =>
    lookAtAll({ colorScheme }, async (page, name) => {
      await page.screenshot({ path: `${SHOTS}/${name}-${colorScheme}.png`, fullPage: true });
      return checkAccess(page);
    }));
}

test("names that are markup are shown as they are, and do nothing", async () => {
  for (const path of ["/", "/jobs", PAGES.hostile, "/workers", "/events", `/compare?jobs=${id(JOBS.hostile)}`, "/jobs?contains=<img src=x onerror=window.hacked=1>", "/jobs/%3Cimg%20src=x%20onerror=alert(1)%3E"]) {
    const { page, errors, close } = await opened(path);
    for (const button of await page.locator("button[aria-expanded]:enabled").all()) await button.click();
    await page.waitForTimeout(300);
    assert.equal(await page.evaluate(() => window.hacked), undefined, path);
    assert.equal(await page.locator("main img, main script, main svg[onload], main [onmouseover], main [onerror], main [autofocus]").count(), 0, path);
    assert.deepEqual(errors, [], path);
    await close();
  }
  const { page, close } = await opened(PAGES.hostile);
  assert.match(await page.locator("main").innerText(), /<img src=x onerror="window\.hacked=1">/);
  await close();
});

test("rounds of a job come without a reload", async () => {
  const { page, close } = await opened(PAGES.running);
  const round = async () => Number((await page.locator(".facts .fact dd").first().innerText()).replaceAll(",", "").match(/\d+/)[0]);
  const first = await round();
  await page.waitForFunction((then) => Number(document.querySelector(".facts .fact dd").innerText.replaceAll(",", "").match(/\d+/)[0]) > then, first, { timeout: 10_000 });
  await close();
});

test("a page without a connection says so, and since when", async () => {
  const { page, close } = await opened("/");
  await page.route("**/api/**", (route) => route.abort());
  await page.evaluate(() => {
    // A page that is hidden gives its streams back, and takes them up when it is shown: now in vain.
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
    Object.defineProperty(document, "visibilityState", { value: "visible", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  const banner = page.locator(".banner");
  await banner.waitFor({ timeout: 10_000 });
  assert.match(await banner.innerText(), /Disconnected for .* from \d\d:\d\d:\d\d/s);
  assert.match(await page.locator(".health-sentence").innerText(), /has not been heard/);
  await page.unroute("**/api/**");
  await banner.waitFor({ state: "detached", timeout: 15_000 });
  await close();
});

test("a job is paused and resumed with the keyboard, after a question", async () => {
  const { page, errors, close } = await opened(PAGES.running);
  await page.getByRole("button", { name: "Pause" }).focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Pause" }).click();
  await dialog.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Resume" }).waitFor({ timeout: 10_000 });
  await page.getByRole("button", { name: "Resume" }).click();
  await dialog.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Pause" }).waitFor({ timeout: 10_000 });
  assert.deepEqual(errors, []);
  await close();
});

test("a job file with a mistake is told by its field, and a good one is submitted", async () => {
  const { page, close } = await opened("/jobs?submit=1");
  const dialog = page.getByRole("dialog");
  const spec = await (await fetch(`${BASE}/api/v1/jobs/${id(JOBS.done)}`)).json().then((job) => job.spec);
  await dialog.getByLabel("Its text").fill(JSON.stringify({ ...spec, federation: { ...spec.federation, rounds: -1 } }));
  await dialog.getByRole("button", { name: "Check" }).click();
  await dialog.getByText("federation.rounds").first().waitFor({ timeout: 10_000 });
  assert.ok(await dialog.getByRole("button", { name: "Submit", exact: true }).isDisabled());
  await dialog.getByLabel("Its text").fill(JSON.stringify({ ...spec, federation: { ...spec.federation, rounds: 1 } }));
  await dialog.getByLabel("Id of the job").fill("from-the-page");
  await dialog.getByRole("button", { name: "Check" }).click();
  await dialog.getByText("The job is valid").waitFor({ timeout: 10_000 });
  await dialog.getByRole("button", { name: "Submit", exact: true }).click();
  await page.waitForURL("**/jobs/from-the-page", { timeout: 10_000 });
  await close();
});

test("who may only look sees no buttons that change something", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.route("**/api/v1/session", async (route) => {
    const answer = await route.fetch();
    const session = await answer.json();
    await route.fulfill({ json: { ...session, may: { submit: false, control: false, drain: false } } });
  });
  for (const path of ["/jobs?submit=1", PAGES.running, "/workers"]) {
    await page.goto(BASE + path);
    await page.locator("h1").waitFor();
    await page.waitForTimeout(500);
    assert.equal(await page.getByRole("button", { name: /^(Pause|Resume|Cancel|Try again|Drain|Undrain|Submit.*)$/ }).count(), 0, path);
    assert.equal(await page.getByRole("dialog").count(), 0, path);
  }
  await context.close();
});

test("the address holds what is chosen", async () => {
  const { page, close } = await opened("/jobs?state=RUNNING");
  assert.equal(await page.getByLabel("State").inputValue(), "RUNNING");
  await page.getByLabel("State").selectOption("SUCCEEDED");
  await page.waitForURL("**/jobs?state=SUCCEEDED");
  await page.getByRole("link", { name: "done", exact: true }).first().click();
  await page.waitForURL(`**/jobs/${id(JOBS.done)}`);
  await page.goBack();
  await page.waitForURL("**/jobs?state=SUCCEEDED");
  assert.equal(await page.getByLabel("State").inputValue(), "SUCCEEDED");
  await close();
});

test("the keyboard reaches the page without passing the menu", async () => {
  const { page, close } = await opened("/workers");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await close();
});
