// What the pages do beyond links and forms: filters that answer while you type, a live overview, keys for choices.
// Everything works without it. It only ever puts in place elements of pages that this server rendered and escaped.
"use strict";

async function replaced(url, id, wanted = () => true) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (!answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(id);
  const old = document.getElementById(id);
  if (!fresh || !old || !wanted()) return false;
  old.replaceWith(document.adoptNode(fresh));
  return true;
}

function filters(form) {
  let waiting = 0;
  let asked = 0;
  const ask = async () => {
    const mine = ++asked;
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) query.set(name, value);
    const url = `${location.pathname}?${query}`;
    const target = document.getElementById(form.dataset.replace);
    if (target) target.setAttribute("aria-busy", "true");
    // Replies may come in another order than they were asked for: an earlier one is no longer wanted.
    if (await replaced(url, form.dataset.replace, () => mine === asked)) history.replaceState(null, "", url);
  };
  const soon = (delay) => { clearTimeout(waiting); waiting = setTimeout(ask, delay); };
  form.addEventListener("input", (event) => {
    const echo = event.target.dataset.echo;
    if (echo) document.getElementById(echo).textContent = event.target.value;
    soon(event.target.type === "range" ? 40 : 250);
  });
  form.addEventListener("change", (event) => {
    // Another stage drops for other reasons, and another kind has another range: the form itself is another one.
    if (["stage", "kind"].includes(event.target.name)) form.requestSubmit();
  });
}

function live(element) {
  const every = Number(element.dataset.everyMs);
  if (!every) return;
  setTimeout(async () => {
    const opened = document.visibilityState === "visible";
    if (opened) await replaced(location.href, element.id).catch(() => false);
    live(document.getElementById(element.id));
  }, every);
}

document.querySelectorAll("form[data-replace]").forEach(filters);
document.querySelectorAll("[data-every-ms]").forEach(live);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  if (button) button.click();
});
