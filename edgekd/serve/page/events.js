/** Server-sent events of an answer's body: WHATWG HTML, section 9.2.6. */

/**
 * Yields {name, data}, whatever pieces the body comes in; comments are left out.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let isOver = false;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      isOver = done;
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const end = text.endsWith("\r") ? text.length - 1 : text.length; // "\n" may follow
      const blocks = text.slice(0, end).replace(/\r\n?/g, "\n").split("\n\n");
      text = blocks.pop() + text.slice(end);
      for (const block of blocks) {
        const event = parse(block);
        if (event.data !== "") yield event;
      }
    }
  } finally {
    if (!isOver) reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return { name, data: data.join("\n") };
}
