// Opens pages in a real Chromium and says what was seen: node look.mjs ORDERS.json, answer on standard output.
// The orders: {modules, profile, pages: [{url, width, height, dark, paper, shot, keys}]}.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const orders = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const require = createRequire(orders.modules + '/');
const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await puppeteer.launch({
  executablePath: orders.chromium,
  userDataDir: orders.profile,
  pipe: true,
  headless: true,
  // No name but this machine's own leads anywhere. Tests may run as root, which Chromium's sandbox refuses.
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--force-color-profile=srgb',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1'],
});
const seen = [];
try {
  for (const order of orders.pages) {
    const page = await browser.newPage();
    const found = { url: order.url, console: [], requests: [], errors: [] };
    page.on('console', (message) => found.console.push(`${message.type()}: ${message.text()}`));
    page.on('request', (request) => found.requests.push(request.url()));
    page.on('pageerror', (error) => found.errors.push(String(error)));
    page.on('dialog', (dialog) => { found.errors.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    await page.setViewport({ width: order.width, height: order.height ?? 800, deviceScaleFactor: order.scale ?? 1 });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: order.dark ? 'dark' : 'light' }]);
    if (order.paper) await page.emulateMediaType('print');
    const response = await page.goto(order.url, { waitUntil: 'load', timeout: 120000 });
    found.status = response?.status() ?? null;
    found.title = await page.title();
    found.layout = await page.evaluate(() => ({
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      background: getComputedStyle(document.body).backgroundColor,
      font: parseFloat(getComputedStyle(document.body).fontSize),
      smallest: Math.min(...[...document.querySelectorAll('svg text')].map((text) =>
        parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width /
        text.ownerSVGElement.viewBox.baseVal.width)),
      scripts: document.scripts.length,
      text: document.body.innerText,
    }));
    // Where the Tab key leads, one after the other.
    found.focused = [];
    for (let step = 0; step < (order.tabs ?? 0); step++) {
      await page.keyboard.press('Tab');
      found.focused.push(await page.evaluate(() => document.activeElement.textContent.trim().slice(0, 40)));
    }
    if (order.tabs) {
      await page.evaluate(() => document.querySelector('summary')?.focus());
      await page.keyboard.press('Enter');
      found.opened = await page.evaluate(() => document.querySelectorAll('details[open]').length);
      await page.keyboard.press('Enter');
    }
    if (order.shot) await page.screenshot({ path: order.shot, fullPage: order.whole ?? true });
    // Last, for it looks around in the page. What the driver evaluates is no script of the page: its policy stays in force.
    await page.evaluate(axe);
    const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    found.violations = result.violations.map((it) =>
      `${it.id}: ${it.help}\n  ${it.nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join('\n  ')}`);
    found.passes = result.passes.length;
    seen.push(found);
    await page.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
