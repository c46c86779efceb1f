// Keeps what the page has loaded, so that it opens without a network. A network that answers comes first: what a
// browser kept is never shown in place of a newer file.

const KEPT = "edgekit-model";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

async function answer(request) {
  const kept = await caches.open(KEPT);
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    const found = await kept.match(request);
    if (found === undefined) throw error;
    return found;
  }
  if (response.ok) await kept.put(request, response.clone());
  return response;
}
