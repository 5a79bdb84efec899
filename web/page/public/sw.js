/*
 * Keeps the page for use without a network, and gives it the headers that threads need, where the host does not send them.
 * The build fills in the version and the list of files.
 */

const CACHE = "deeplens-__VERSION__";
const FILES = ["__FILES__"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (names) => names.filter((name) => name.startsWith("deeplens-") && name !== CACHE);
  event.waitUntil(
    caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

/** The same answer with the headers of cross-origin isolation. */
function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  // The list of models names each by its hash, so that only the list has to be fresh; so have the golden vectors.
  const fresh = request.mode === "navigate" || /\/models\/(models|selftest)\.\w+$/.test(request.url);
  const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
  if (kept && !fresh) return isolated(kept);
  try {
    const response = await fetch(request);
    if (response.ok && request.method === "GET") await cache.put(request, response.clone());
    return isolated(response);
  } catch (error) {
    if (kept) return isolated(kept);
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (address.origin !== self.location.origin || request.method !== "GET" || address.pathname.includes("/api/")) return;
  event.respondWith(answer(request));
});
