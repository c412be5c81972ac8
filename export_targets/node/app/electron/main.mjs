// A window that draws: `npx electron electron/main.mjs`, after `npm install electron`.
//
// The model runs in Electron's main process, whose Node has onnxruntime-node; the window gets
// pictures as PNG files and has no access to Node itself.

import { fileURLToPath } from "node:url";
import { app, BrowserWindow, ipcMain } from "electron";

import { encodePng, open, pictureTexts } from "../dist/index.mjs";

const own = (name) => fileURLToPath(new URL(name, import.meta.url));
let pipeline;

ipcMain.handle("model", async () => {
  pipeline ??= open();
  const { name, generation } = (await pipeline).model;
  return { name, steps: generation.steps };
});

ipcMain.handle("draw", async (event, request) => {
  const onStep = (done, calls) => event.sender.send("step", done, calls);
  const { model } = await pipeline;
  const picture = await (await pipeline).generate(request, { onStep });
  return encodePng(picture, pictureTexts(model, request));
});

function show() {
  const window = new BrowserWindow({
    width: 480,
    height: 720,
    webPreferences: { preload: own("preload.cjs"), sandbox: true, contextIsolation: true },
  });
  return window.loadFile(own("index.html"));
}

app.on("window-all-closed", () => app.quit());
// Electron becomes ready after this module has run: awaiting it here would never end.
app.whenReady().then(show);
