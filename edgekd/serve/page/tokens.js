/** Asking for the server's token. It is kept in this tab's sessionStorage alone. */

import { token } from "./api.js";
import { byId } from "./dom.js";

/** Ask until the server takes one; false: not now. `accepted` tells whether it does. */
export async function askForToken(accepted) {
  const dialog = byId("ask-token");
  const field = byId("token");
  const error = byId("token-error");
  field.value = "";
  error.textContent = token.get() === null ? "" : "The server does not take this token.";
  token.forget();
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    byId("token-form").onsubmit = async (event) => {
      event.preventDefault();
      token.set(field.value.trim());
      if (await accepted()) {
        resolve(true);
        dialog.close();
        return;
      }
      token.forget();
      error.textContent = "The server does not take this token.";
      field.setAttribute("aria-invalid", "true");
      field.select();
    };
    byId("token-cancel").onclick = () => dialog.close();
    dialog.addEventListener("close", () => {
      field.value = "";
      field.removeAttribute("aria-invalid");
      resolve(false);
    }, { once: true });
  });
}
