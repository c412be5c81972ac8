/** The service worker, from the page's side. */

const RELOADED = "edgekd reloaded";

/**
 * Lets the service worker take over, which keeps the page and makes it isolated. The first visit
 * of a host that does not send the headers itself is loaded a second time for it.
 *
 * Returns whether the page goes on; false: it is about to be loaded again.
 */
export async function takeOver(): Promise<boolean> {
  if (!navigator.serviceWorker) return true;
  try {
    await navigator.serviceWorker.register("sw.js", { type: "module" });
    await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller) await claimed();
  } catch {
    return true; // a private window: the page works, but not without a network
  }
  if (self.crossOriginIsolated || sessionStorage.getItem(RELOADED)) return true;
  sessionStorage.setItem(RELOADED, "yes");
  location.reload();
  return false;
}

/** A page that was loaded past its service worker (shift and reload) is not claimed again. */
function claimed(): Promise<void> {
  return new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
    setTimeout(resolve, 3000);
  });
}
