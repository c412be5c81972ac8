/**
 * Keeps the page for visits without a network, and lets it use threads: the headers that browsers
 * ask for (COOP, COEP) are added here, since most static hosts cannot send them.
 */

declare const self: ServiceWorkerGlobalScope;
export {};

const PAGE = `edgekd page ${self.registration.scope}`;

self.addEventListener("install", (event) => {
  event.waitUntil(keepPage().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  // The worker keeps these itself, with their hashes.
  if (url.pathname.includes("/model/chunks/")) return;
  event.respondWith(answer(request, url).then(isolated));
});

/** The page and what it names. */
async function keepPage(): Promise<void> {
  const cache = await caches.open(PAGE);
  const page = await fetch("./", { cache: "no-cache" });
  if (!page.ok) throw new Error(`the page must be there, but got ${page.status}`);
  const html = await page.clone().text();
  const named = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);
  await cache.put("./", page);
  await cache.addAll(named);
}

async function answer(request: Request, url: URL): Promise<Response> {
  const cache = await caches.open(PAGE);
  const key = request.mode === "navigate" ? self.registration.scope : url.href;
  // Names in `assets/` have the hash of their content.
  if (url.pathname.includes("/assets/")) {
    const kept = await cache.match(key);
    if (kept) return kept;
  }
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = await cache.match(key);
    if (kept) return kept;
    throw error;
  }
  if (response.ok && response.status !== 206) {
    const copy = response.clone();
    await cache.put(key, copy).catch(() => undefined); // no room: no visit without a network
  }
  return response;
}

function isolated(response: Response): Response {
  if (response.type === "opaqueredirect" || response.type === "error") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText } = response;
  const empty = [101, 204, 205, 304].includes(status);
  return new Response(empty ? null : response.body, { status, statusText, headers });
}
