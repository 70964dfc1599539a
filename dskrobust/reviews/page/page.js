"use strict";
const $ = (id) => document.getElementById(id);
const LETTERS = { keep: "K", relabel: "R", drop: "D", unsure: "U" };
const DONE = { keep: "kept", relabel: "relabelled", drop: "dropped", unsure: "left as unsure" };
const FIRST = 60; // classes in the chooser at once
let facts, states = [], shown = null, place = 0, asked = 0, busy = false, over = false;

// -- the server ------------------------------------------------------------------------------

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    over = true;
    throw new Error("The review has ended, or its command was stopped. All decisions are in the store; run `dskrobust review` again to go on.");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function trouble(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
  buttons();
}

async function guarded(work) {
  if (busy || over) return;
  busy = true;
  try {
    $("trouble").hidden = true;
    await work();
  } catch (error) {
    trouble(error);
  } finally {
    busy = false;
  }
}

// -- elements --------------------------------------------------------------------------------

function make(name, text, more) { // text is text, whatever is in it
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  return Object.assign(element, more);
}

function picture(found, name) {
  const canvas = make("canvas", null, { width: found.width, height: found.height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  const bytes = Uint8Array.from(atob(found.data), (c) => c.charCodeAt(0));
  const image = new ImageData(found.width, found.height);
  const colours = found.channels === 3 ? 3 : 1;
  for (let k = 0; k < found.width * found.height; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = bytes[colours * k + (colours === 3 ? c : 0)];
    image.data[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function sample(found) {
  const figure = make("figure"), caption = make("figcaption");
  const role = make("span", found.role, { className: "role" });
  if (ROLES[found.role]) role.append(make("span", `: ${ROLES[found.role]}`, { className: "means" }));
  caption.append(role);
  caption.append(make("b", found.label));
  const where = [`row ${found.row}`];
  if (found.id !== null) where.push(found.id);
  if (found.distance !== null) where.push(`distance ${found.distance}`);
  for (const part of where) caption.append(make("small", part));
  figure.append(caption);
  if (found.picture) figure.append(picture(found.picture, `${found.role}, row ${found.row}, ${found.label}`));
  for (const [name, text] of found.texts) {
    const box = make("div", null, { className: "text", tabIndex: 0 });
    box.append(make("b", name), text);
    figure.append(box);
  }
  return figure;
}
const ROLES = { witness: "nearest of another label", namesake: "nearest of the same label" };

function table(found) {
  const made = make("table"), head = make("tr"), body = make("tbody");
  for (const name of ["feature", ...found.samples.map((s) => s.role), "part"]) {
    head.append(make("th", name, { scope: "col", className: name === "part" ? "part" : "" }));
  }
  made.append(make("thead"));
  made.tHead.append(head);
  for (const column of found.columns) {
    const line = make("tr");
    line.append(make("th", column.name, { scope: "row" }));
    column.values.forEach((value, k) => {
      const cell = make("td", value, { className: column.differs[k] ? "differs" : "" });
      if (column.differs[k]) cell.append(make("span", " (differs)", { className: "hidden" }));
      line.append(cell);
    });
    const part = make("td", null, { className: "part" });
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    bar.setAttribute("aria-hidden", "true");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("width", `${100 * column.part}%`);
    rect.setAttribute("height", "8");
    bar.append(rect);
    part.append(bar, column.part && column.part < 0.005 ? "<1 %" : `${Math.round(100 * column.part)} %`);
    line.append(part);
    body.append(line);
  }
  made.append(body);
  return made;
}

// -- showing ---------------------------------------------------------------------------------

async function show(to) {
  const mine = ++asked;
  $("main").setAttribute("aria-busy", "true");
  const found = await ask(`cases/${to}`);
  if (mine !== asked) return;
  place = to;
  shown = found;
  const title = $("case");
  title.replaceChildren(`Row ${found.row}${found.samples[0].id !== null ? ` (${found.samples[0].id})` : ""}${found.group ? ` of ${found.group}` : ""}: labelled `);
  title.append(make("b", found.label), facts.real ? ", neighbours say " : ", its surroundings say ", make("b", found.suggested));
  $("flag").textContent = found.is_issue ? "suspicious" : "not flagged";
  $("flag").className = found.is_issue ? "issue" : "";
  $("facts").replaceChildren(...found.facts.map(([name, value]) => make("span", `${name} ${value}`)));
  $("samples").className = found.samples.some((s) => s.texts.length) ? "texts" : "";
  $("samples").replaceChildren(...found.samples.map(sample));
  $("columns").hidden = $("note").hidden = !found.columns.length;
  const more = found.more_columns ? ` ${found.more_columns} further columns make less of it.` : "";
  $("note").textContent = `Feature values; bold are those that differ from the sample's. Part: of the squared distance between sample and ${found.samples[1].role}.${more}`;
  $("columns").replaceChildren(...(found.columns.length ? [table(found)] : []));
  $("remark").textContent = found.remark;
  const made = found.decision;
  $("decided").hidden = !made;
  if (made) {
    const label = made.label === null ? "" : ` as ${made.label}`;
    $("decided").textContent = `Decided: ${DONE[made.decision]}${label}${made.who ? ` by ${made.who}` : ""}, ${made.when}.${made.comment ? ` “${made.comment}”` : ""} Decide again to change it.`;
  }
  $("comment").value = made ? made.comment : "";
  $("main").setAttribute("aria-busy", "false");
  strip();
  buttons();
  scrollTo(0, 0);
  history.replaceState(null, "", `#${place + 1}`);
  say(`${place + 1} of ${states.length}. ${title.textContent}. ${made ? $("decided").textContent : ""}`);
}

const spoken = [];
function say(text) {
  spoken.push(text);
  setTimeout(() => { $("live").textContent = spoken.splice(0).join(" "); }, 50);
}

function strip() {
  const made = states.filter((s) => s).length;
  $("bar").max = Math.max(1, states.length);
  $("bar").value = made;
  $("count").textContent = `${made} of ${states.length} decided`;
  const items = $("strip").children;
  states.forEach((state, k) => {
    const button = items[k].firstChild;
    button.textContent = state ? LETTERS[state] : k + 1;
    button.className = state ? "made" : "";
    button.setAttribute("aria-label", `${k + 1}, ${state ? DONE[state] : "open"}`);
    button.tabIndex = k === place ? 0 : -1;
    if (k === place) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  const current = items[place];
  if (current) $("strip").scrollLeft = current.offsetLeft - $("strip").clientWidth / 2;
}

let undoable = false;
function buttons() {
  const none = over || !shown;
  for (const id of ["keep", "relabel", "other", "drop", "unsure", "comment", "end"]) $(id).disabled = none;
  $("back").disabled = none || place === 0;
  $("next").disabled = none || place === states.length - 1;
  $("undo").disabled = none || !(undoable || (shown && shown.decision));
  const made = shown && shown.decision;
  for (const id of Object.keys(LETTERS)) $(id).setAttribute("aria-pressed", Boolean(made && made.decision === id));
  if (!shown) return;
  $("relabel").firstChild.textContent = `Relabel as ${shown.suggested} `;
  $("relabel").disabled = none || !shown.suggested || shown.suggested === shown.label;
}

function take(found) {
  states = found.states;
  undoable = found.undoable;
}

// -- deciding --------------------------------------------------------------------------------

function decide(decision, label = null) {
  return guarded(async () => {
    const row = shown.row, comment = $("comment").value;
    take(await ask("decisions", { place, decision, label, comment }));
    say(`Row ${row} ${DONE[decision]}${label === null ? "" : ` as ${label}`}.`);
    const after = states.findIndex((state, k) => !state && k > place);
    const open = after >= 0 ? after : states.findIndex((state) => !state);
    if (open >= 0) return show(open);
    say("All samples are decided; end the review with Done, or look at them again.");
    return show(Math.min(place + 1, states.length - 1));
  });
}

function undo() {
  return guarded(async () => {
    const own = shown.decision && !undoable;
    const found = await ask("undo", own ? { place } : {});
    take(found);
    if (found.undone === null) return;
    say("Undone.");
    await show(found.undone);
  });
}

function go(to) {
  if (to >= 0 && to < states.length) guarded(() => show(to));
}

function end() {
  guarded(async () => {
    await ask("end", {});
    over = true;
    const open = states.filter((s) => !s).length;
    $("case").textContent = "The review has ended";
    for (const id of ["samples", "facts", "note", "columns", "remark", "flag"]) $(id).replaceChildren();
    $("decided").hidden = false;
    $("decided").textContent = `${states.length - open} of ${states.length} samples are decided, and kept in the store. Close this page; \`dskrobust apply\` makes a cleaned store${open ? ", `dskrobust review` goes on" : ""}.`;
    $("decide").hidden = true;
    say($("decided").textContent);
    $("case").focus();
    buttons();
  });
}

// -- choosing a label ------------------------------------------------------------------------

function choose() {
  if (!shown || over) return;
  $("label").value = "";
  $("wrong").textContent = facts.more_labels ? `${facts.more_labels} further classes are not listed; type the whole name.` : "";
  $("label-name").textContent = facts.real ? "The right value, in the units of the data" : "Type to find a class, Enter takes the first";
  if (facts.real) $("label").inputMode = "decimal";
  $("chooser").showModal();
  filter();
  $("label").focus();
}

function matching() {
  const typed = $("label").value.trim().toLowerCase();
  const known = facts.labels.filter((name) => name !== shown.label && name.toLowerCase().includes(typed));
  const rank = (name) => (name.toLowerCase() === typed ? 0 : name === shown.suggested ? 1 : name.toLowerCase().startsWith(typed) ? 2 : 3);
  return known.map((name, k) => [rank(name), k, name]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((one) => one[2]);
}

function filter() {
  if (facts.real) { $("found").replaceChildren(); return; }
  const names = matching();
  $("found").replaceChildren(...names.slice(0, FIRST).map((name, k) => {
    const button = make("button", name, { type: "button", className: k ? "" : "first" });
    button.addEventListener("click", () => chosen(name));
    return button;
  }));
  if (names.length > FIRST) $("found").append(make("span", `and ${names.length - FIRST} more; type to find them`, { className: "quiet" }));
  if (!names.length) $("found").append(make("span", "no class has such a name", { className: "quiet" }));
}

function chosen(name) {
  $("chooser").close();
  decide("relabel", name);
}

$("chooser-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("label").value.trim();
  const name = facts.real ? typed : matching()[0] || (facts.more_labels ? typed : "");
  if (facts.real && (typed === "" || !Number.isFinite(Number(typed)))) {
    $("wrong").textContent = "That is no number.";
    return;
  }
  if (name) chosen(name);
});
$("label").addEventListener("input", filter);
$("cancel").addEventListener("click", () => $("chooser").close());

// -- hands -----------------------------------------------------------------------------------

const ACTIONS = {
  keep: () => decide("keep"), relabel: () => decide("relabel", shown.suggested), other: choose,
  drop: () => decide("drop"), unsure: () => decide("unsure"), undo,
  back: () => go(place - 1), next: () => go(place + 1), end,
};
for (const [id, act] of Object.entries(ACTIONS)) $(id).addEventListener("click", act);
const KEYS = { k: "keep", r: "relabel", l: "other", d: "drop", u: "unsure", z: "undo", Backspace: "undo",
  ArrowLeft: "back", ArrowRight: "next" };

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || $("chooser").open) return;
  if (event.target.matches("input")) {
    if (event.key === "Escape" || event.key === "Enter") event.target.blur();
    return;
  }
  if (event.target.matches(".wide, .text") && event.key.startsWith("Arrow")) return; // they scroll
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "c") { event.preventDefault(); $("comment").focus(); return; }
  const id = KEYS[key];
  if (!id || $(id).disabled) return;
  event.preventDefault();
  ACTIONS[id]();
});

async function start() {
  facts = await ask("facts");
  take(await ask("progress"));
  document.title = `Review of ${facts.name}`;
  $("title").textContent = `Review of ${facts.name}`;
  if (facts.real) $("other").firstChild.textContent = "Other value … ";
  $("strip").replaceChildren(...states.map((_, k) => {
    const item = make("li"), button = make("button", k + 1, { type: "button" });
    button.addEventListener("click", () => go(k));
    item.append(button);
    return item;
  }));
  if (!states.length) {
    $("case").textContent = "There is nothing to review";
    $("main").setAttribute("aria-busy", "false");
    strip();
    buttons();
    $("end").disabled = false;
    return;
  }
  const asked = Number(location.hash.slice(1)) - 1;
  const open = states.findIndex((state) => !state);
  await show(asked >= 0 && asked < states.length ? asked : Math.max(0, open));
}
buttons();
guarded(start);
