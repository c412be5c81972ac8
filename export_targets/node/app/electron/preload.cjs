// What the window may ask of the main process, and nothing else.
const { contextBridge, ipcRenderer } = require("electron");

contextBridge.exposeInMainWorld("edgekd", {
  model: () => ipcRenderer.invoke("model"),
  draw: (request) => ipcRenderer.invoke("draw", request),
  onStep: (told) => ipcRenderer.on("step", (_event, done, calls) => told(done, calls)),
});
