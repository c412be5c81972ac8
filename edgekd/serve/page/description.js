/** The API for people: what /openapi.json says of it. */

import { description } from "./api.js";
import { byId, make } from "./dom.js";

const NAMES = { string: "text", integer: "whole number", number: "number", boolean: "true or false" };

/** Describe the API when it is first asked for. `failed` is told why it cannot be. */
export function offerDescription(failed) {
  const details = byId("api");
  details.addEventListener("toggle", async () => {
    const place = byId("api-text");
    if (!details.open || place.childElementCount) return;
    try {
      place.replaceChildren(...operations(await description()));
    } catch (error) {
      details.open = false;
      failed(error);
    }
  });
}

function operations({ paths, components }) {
  const find = (schema) => components.schemas[schema?.$ref?.split("/").pop()] ?? schema;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const parameters = (operation.parameters ?? []).map((one) => [one.name, one.schema, true]);
      const heading = `${method.toUpperCase()} ${path}`;
      return make(
        "article",
        { "aria-label": heading },
        make("h3", {}, make("code", {}, heading)),
        make("p", {}, ...prose(operation.description ?? operation.summary)),
        fields("Address", parameters, find),
        fields("Body", properties(jsonOf(operation.requestBody), find), find),
        fields("Answer", properties(jsonOf(operation.responses["200"]), find), find),
      );
    }),
  );
}

const jsonOf = (message) => message?.content?.["application/json"]?.schema;

/** [name, schema, whether it must be there] of an object's fields. */
function properties(schema, find) {
  const { properties: all = {}, required = [] } = find(schema) ?? {};
  return Object.entries(all).map(([name, one]) => [name, one, required.includes(name)]);
}

/** A list of fields under a title, objects in them as lists of their own; null: there are none. */
function fields(title, rows, find) {
  if (rows.length === 0) return null;
  const items = rows.flatMap(([name, schema, isRequired]) => {
    const inner = find(schema.items ?? schema);
    const text = [kind(schema), schema.description].filter(Boolean).join(". ");
    return [
      make("dt", {}, make("code", {}, name), title === "Body" && isRequired && " (required)"),
      make("dd", {}, ...prose(text), inner.properties ? fields(null, properties(inner, find), find) : null),
    ];
  });
  const list = make("dl", { className: "facts" }, ...items);
  return title === null ? list : make("div", {}, make("h4", {}, title), list);
}

/** Text whose `parts` are code. */
const prose = (text) =>
  text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));

/** A schema's type and limits in words. */
function kind(schema) {
  if (schema.anyOf) {
    const some = schema.anyOf.filter((one) => one.type !== "null");
    return some.map(kind).join(" or ");
  }
  if (schema.enum) return schema.enum.join(", ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.type === "array") return `list of ${schema.items.$ref ? "objects" : kind(schema.items)}`;
  const { minimum: low, maximum: high, minLength: short, maxLength: long } = schema;
  const range = low !== undefined && high !== undefined ? `, ${low} to ${high}` : "";
  const letters = long !== undefined ? `, ${short ?? 0} to ${long} letters` : "";
  return schema.$ref ? "object" : `${NAMES[schema.type] ?? ""}${range}${letters}`;
}
