"use strict";
// The page reads without this script; it filters, opens what a link leads to, reads single steps out, and draws plots.
(() => {
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);

  // Theme: as the system says, or as chosen here; the choice is kept where the browser lets a file keep anything.
  const themes = ["auto", "dark", "light"];
  const remembered = () => { try { return localStorage.getItem("parity-theme"); } catch { return null; } };
  const remember = (name) => { try { localStorage.setItem("parity-theme", name); } catch { /* a file may not */ } };
  const button = byId("theme");
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  const setTheme = (name) => {
    theme = name;
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    button.setAttribute("aria-label", `Theme: ${name === "auto" ? "as the system" : name}`);
  };
  button.addEventListener("click", () => {
    setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]);
    remember(theme);
  });
  setTheme(theme);

  // Filter: words and verdicts, over the grid's rows and the clips below.
  const rows = all("tr[data-clip]");
  const ticks = all("input[name=outcome]");
  const filter = () => {
    const words = byId("find").value.trim().toLowerCase();
    const wanted = new Set(ticks.filter((tick) => tick.checked).map((tick) => tick.value));
    let left = 0;
    for (const row of rows) {
      const fits = row.dataset.words.includes(words) && row.dataset.outcomes.split("|").some((name) => wanted.has(name));
      row.hidden = !fits;
      byId(row.dataset.clip).hidden = !fits;
      left += fits ? 1 : 0;
    }
    byId("count").textContent = `${left} of ${rows.length} clips`;
    byId("none-left").hidden = left > 0;
  };
  byId("filter").addEventListener("input", filter);
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser keeps what was typed when a page is loaded again

  // A link into a closed or filtered clip opens it.
  const land = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      at.hidden = false;
      if (at.tagName === "DETAILS") at.open = true;
    }
    target.scrollIntoView();
    (target.tagName === "DETAILS" ? target.querySelector("summary") : target).focus({ preventScroll: true });
  };
  addEventListener("hashchange", land);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) land(); // the same place again changes no hash
  });
  const openAll = (open) => all("details.clip").forEach((clip) => { clip.open = open; });
  byId("open-all").addEventListener("click", () => openAll(true));
  byId("close-all").addEventListener("click", () => openAll(false));

  // Strips: pointer and arrow keys read a step out.
  const kinds = { sure: "sure", risk: "at risk", tie: "flipped: tie", fault: "flipped: fault" };
  for (const strip of all("figure.strip")) {
    let steps = null, at = -1;
    const scroller = strip.querySelector(".scroll"), readout = strip.querySelector(".readout");
    const pitch = Number(strip.dataset.pitch);
    const read = (index) => {
      steps ??= JSON.parse(strip.dataset.steps);
      at = Math.max(0, Math.min(steps.length - 1, index));
      const [window_, step, choice, other, margin, movement, kind] = steps[at];
      const x = (at + 0.5) * pitch;
      strip.querySelector(".cursor").setAttribute("d", `M${x} 4V112`);
      readout.textContent = `${window_ ? `window ${window_}, ` : ""}step ${step}: \u2068“${choice}”\u2069 before `
        + `\u2068“${other}”\u2069, margin ${margin}, moved ${movement}, ${kinds[kind]}`;
    };
    scroller.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      read(at + move);
    });
    strip.querySelector("svg").addEventListener("pointermove", (event) => {
      const left = event.currentTarget.getBoundingClientRect().left + 44;
      if (event.clientX >= left) read(Math.floor((event.clientX - left) / pitch));
    });
  }

  // Plots: one after the other when there is time. `ast` makes Vega interpret its expressions: the page's policy
  // forbids eval, and an expression in a hostile file would stay what it is.
  const data = JSON.parse(byId("data").textContent);
  const draw = async (place) => {
    const plot = data.plots[place.dataset.plot];
    const spec = { ...data.specifications[plot.kind], datasets: { points: plot.points, rules: plot.rules } };
    place.textContent = "";
    const { view } = await vegaEmbed(place, spec, { ast: true, actions: false, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true } });
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.anchor) location.hash = item.datum.anchor;
    });
  };
  const places = all("[data-plot]");
  const next = () => {
    const place = places.shift();
    if (!place) { document.documentElement.dataset.plots = "drawn"; return; }
    draw(place).then(() => setTimeout(next), (error) => { place.textContent = `Not drawn: ${error.message}`; console.error(error); next(); });
  };
  addEventListener("load", () => { land(); next(); });
})();
