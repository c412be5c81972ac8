const element = (id) => document.getElementById(id);
const status = element("status");
const button = element("draw");

try {
  const { name, steps } = await window.edgekd.model();
  element("name").textContent = name;
  element("steps").value = String(steps);
  status.textContent = "Ready";
  button.disabled = false;
} catch (error) {
  status.textContent = error.message;
}
window.edgekd.onStep((done, calls) => (status.textContent = `Step ${done} of ${calls}`));

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  const prompt = element("prompt").value;
  const seed = element("seed").valueAsNumber;
  try {
    const png = await window.edgekd.draw({ prompt, seed, steps: element("steps").valueAsNumber });
    const picture = element("picture");
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    picture.alt = `Picture of the prompt: ${prompt}`;
    picture.hidden = false;
    status.textContent = "Ready";
  } catch (error) {
    status.textContent = error.message;
  }
  button.disabled = false;
});
