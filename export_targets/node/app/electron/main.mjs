// A window that draws: `npx electron electron/main.mjs`, after `npm install electron`.
//
// The model runs in Electron's main process, whose Node has onnxruntime-node; the window gets
// pictures as PNG files and has no access to Node itself.

import { fileURLToPath } from "node:url";
import { app, BrowserWindow, ipcMain } from "electron";

import { encodePng, open } from "../dist/index.mjs";

const own = (name) => fileURLToPath(new URL(name, import.meta.url));
let pipeline;

ipcMain.handle("model", async () => {
  pipeline ??= open();
  const { name, generation } = (await pipeline).model;
  return { name, steps: generation.steps };
});

ipcMain.handle("draw", async (event, { prompt, seed, steps }) => {
  const onStep = (done, calls) => event.sender.send("step", done, calls);
  const picture = await (await pipeline).generate({ prompt, seed, steps }, { onStep });
  return encodePng(picture, { parameters: JSON.stringify({ prompt, seed, steps }) });
});

await app.whenReady();
const window = new BrowserWindow({
  width: 480,
  height: 720,
  webPreferences: { preload: own("preload.cjs"), sandbox: true, contextIsolation: true },
});
await window.loadFile(own("index.html"));
app.on("window-all-closed", () => app.quit());
