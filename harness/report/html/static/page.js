"use strict";
// The page reads without this script; it filters and sorts, opens what a link leads to, unpacks clips that pass, plays
// sounds around an edit or a step, reads single steps out, and draws plots.
(() => {
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);
  const settings = { // kept where the browser lets a file keep anything
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* a file may not */ } },
  };

  // Theme: as the system says, or as chosen here.
  const themes = ["auto", "dark", "light"];
  const button = byId("theme");
  let theme = themes.includes(settings.get("parity-theme")) ? settings.get("parity-theme") : "auto";
  const setTheme = (name) => {
    theme = name;
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    button.setAttribute("aria-label", `Theme: ${name === "auto" ? "as the system" : name}`);
  };
  const nextTheme = () => {
    setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]);
    settings.set("parity-theme", theme);
  };
  button.addEventListener("click", nextTheme);
  setTheme(theme);

  // Clips that pass lie packed in the page's data: one pack holds a few, and is unpacked when one of them is opened.
  const later = JSON.parse(byId("later").textContent);
  const unpacked = new Map();
  const unpack = (number) => {
    if (!unpacked.has(number)) {
      const bytes = Uint8Array.from(atob(later.packs[number]), (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
      unpacked.set(number, new Response(stream).text().then(JSON.parse));
    }
    return unpacked.get(number);
  };
  const fill = async (clip) => {
    const body = clip.querySelector("[data-later]");
    if (!body) return;
    delete body.dataset.later;
    try {
      const pack = await unpack(later.at[clip.id]);
      body.innerHTML = pack[clip.id]; // escaped when it was written, as all of the page; its policy runs no script of it
    } catch (error) {
      body.textContent = `Not shown: this browser cannot unpack the page's data (${error.message}).`;
      return;
    }
    const [uri, note] = later.sounds[clip.id] ?? ["", ""];
    const sound = body.querySelector("audio");
    if (sound && uri) sound.src = uri;
    const place = body.querySelector(".sound-note");
    if (place && note) place.textContent = `Sound: ${note}`;
    enliven(body);
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.clip[open]")) fill(event.target);
  }, true);

  // Filter and sort: the grid's rows and the clips below; the address says how, so that it can be sent.
  const rows = all("tr[data-clip]");
  const ticks = all("input[name=outcome]");
  const orders = {
    worst: (row) => rows.indexOf(row), name: (row) => row.dataset.name, long: (row) => -row.dataset.long,
    words: (row) => -row.dataset.edits, snr: (row) => Number(row.dataset.snr),
  };
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
  const sort = () => {
    const key = orders[byId("sort").value] ?? orders.worst;
    const keys = new Map(rows.map((row) => [row, key(row)]));
    const sorted = [...rows].sort((one, other) => (keys.get(one) < keys.get(other) ? -1 : keys.get(one) > keys.get(other) ? 1 : 0));
    if (!sorted.length) return;
    sorted[0].parentElement.append(...sorted);
    byId("none-left").before(...sorted.map((row) => byId(row.dataset.clip)));
  };
  const noteView = () => {
    const view = new URLSearchParams();
    if (byId("find").value) view.set("find", byId("find").value);
    if (byId("sort").value !== "worst") view.set("sort", byId("sort").value);
    const off = ticks.filter((tick) => !tick.checked).map((tick) => tick.value);
    if (off.length) view.set("without", off.join("|"));
    const place = location.hash.slice(1).split("?")[0] || "grid";
    history.replaceState(null, "", view.size ? `#${place}?${view}` : `#${place}`);
  };
  const readView = (query) => {
    const view = new URLSearchParams(query);
    byId("find").value = view.get("find") ?? "";
    if (view.get("sort") in orders) byId("sort").value = view.get("sort");
    const off = new Set((view.get("without") ?? "").split("|"));
    ticks.forEach((tick) => { tick.checked = !off.has(tick.value); });
    filter(); sort();
  };
  byId("filter").addEventListener("input", (event) => {
    if (event.target.id === "sort") sort(); else filter();
    noteView();
  });
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  filter(); sort(); // a browser keeps what was typed when a page is loaded again

  // A link into a closed, packed or filtered clip opens it: "#cell-...", "#clip-...@3.2" (a second), "#grid?sort=name".
  const clipOf = new Map(all("tr[data-clip] a").map((link) => [link.getAttribute("href").slice(1), link.closest("tr").dataset.clip]));
  const land = async () => {
    const [place, query] = location.hash.slice(1).split("?");
    if (query !== undefined) readView(query);
    const [id, second] = decodeURIComponent(place).split("@");
    const clip = byId(clipOf.get(id) ?? id);
    if (clip?.matches("details.clip")) { clip.open = true; await fill(clip); }
    const target = byId(id);
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      at.hidden = false;
      if (at.tagName === "DETAILS") at.open = true;
    }
    target.scrollIntoView();
    (target.tagName === "DETAILS" ? target.querySelector("summary") : target).focus({ preventScroll: true });
    if (second !== undefined && clip) around(clip, Number(second), false);
  };
  addEventListener("hashchange", land);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) land(); // the same place again changes no hash
  });
  const openAll = (open) => all("details.clip").forEach((clip) => { if (!clip.hidden || !open) clip.open = open; });
  byId("open-all").addEventListener("click", () => openAll(true));
  byId("close-all").addEventListener("click", () => openAll(false));

  // Word lines: those that differ, or all.
  const allLines = byId("all-lines");
  const setLines = () => document.body.classList.toggle("all-lines", allLines.checked);
  allLines.addEventListener("change", setLines);
  setLines();

  // Sound: a playhead over the spectrogram; what is clicked is played from a little before it to a little behind.
  const BEFORE = 0.7, BEHIND = 1.6;
  let playing = null;
  const around = (clip, second, sounding = true) => {
    const player = clip.querySelector("figure.player"), sound = player?.querySelector("audio");
    if (!sound) return;
    show(player, second);
    if (!sound.currentSrc && !sound.getAttribute("src")) return;
    const seek = () => {
      sound.currentTime = Math.max(0, second - BEFORE);
      if (!sounding) return;
      if (playing && playing !== sound) playing.pause();
      playing = sound;
      player.dataset.until = String(second + BEHIND);
      sound.play().catch(() => { /* the browser wants a click first */ });
    };
    if (sound.readyState > 0) seek(); else { sound.addEventListener("loadedmetadata", seek, { once: true }); sound.load(); }
  };
  const show = (player, second) => {
    const head = player.querySelector(".head"), length = Number(player.dataset.seconds) || 1;
    head.hidden = false;
    head.style.left = `${Math.min(100, (100 * second) / length)}%`;
    player.querySelector(".scope").setAttribute("aria-valuenow", second.toFixed(1));
  };
  const enlivenPlayer = (player) => {
    const scope = player.querySelector(".scope"), sound = player.querySelector("audio");
    const length = Number(player.dataset.seconds) || 1;
    const seek = (second) => {
      const at = Math.max(0, Math.min(length, second));
      delete player.dataset.until;
      show(player, at);
      if (sound.readyState > 0) sound.currentTime = at;
      else if (sound.getAttribute("src")) {
        sound.addEventListener("loadedmetadata", () => { sound.currentTime = at; }, { once: true });
        sound.load();
      }
    };
    scope.addEventListener("click", (event) => {
      const box = scope.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * length);
    });
    scope.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); toggle(sound); }
      if (move === undefined) return;
      event.preventDefault();
      seek(Number(scope.getAttribute("aria-valuenow")) + move);
    });
    sound.addEventListener("timeupdate", () => {
      show(player, sound.currentTime);
      if (player.dataset.until && sound.currentTime >= Number(player.dataset.until)) {
        delete player.dataset.until;
        sound.pause();
      }
    });
    sound.addEventListener("play", () => {
      if (playing && playing !== sound) playing.pause();
      playing = sound;
      const move = () => { if (!sound.paused) { show(player, sound.currentTime); requestAnimationFrame(move); } };
      move();
    });
    if (!scope.querySelector("img") && sound.getAttribute("src")) draw(scope, sound.src, player);
  };
  const toggle = (sound) => { if (sound.paused) sound.play().catch(() => {}); else sound.pause(); };

  // A spectrogram of a sound without a picture: power of 512 samples (32 ms) at a time, on 64 mel bands, in decibels.
  const SIZE = 512, BANDS = 64, RATE = 16000;
  const power = (samples, start, re, im) => {
    for (let i = 0; i < SIZE; i++) {
      re[i] = (samples[start + i] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
      im[i] = 0;
    }
    for (let i = 1, j = 0; i < SIZE; i++) {
      let bit = SIZE >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) [re[i], re[j]] = [re[j], re[i]];
    }
    for (let span = 2; span <= SIZE; span <<= 1) {
      for (let from = 0; from < SIZE; from += span) {
        for (let k = 0; k < span / 2; k++) {
          const turn = (-2 * Math.PI * k) / span, c = Math.cos(turn), s = Math.sin(turn);
          const a = from + k, b = a + span / 2;
          const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
          re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
        }
      }
    }
  };
  const draw = async (scope, uri, player) => {
    const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (character) => character.charCodeAt(0));
    const heard = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes.buffer);
    const samples = heard.getChannelData(0), columns = Math.min(640, Math.ceil(samples.length / 160));
    const canvas = document.createElement("canvas"), mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
    canvas.width = columns; canvas.height = BANDS;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Spectrogram, drawn from the sound, low frequencies below");
    const context = canvas.getContext("2d"), image = context.createImageData(columns, BANDS);
    const re = new Float32Array(SIZE), im = new Float32Array(SIZE), levels = new Float32Array(columns * BANDS).fill(-100);
    const band = Array.from({ length: SIZE / 2 }, (_, i) => Math.min(BANDS - 1, Math.floor((BANDS * mel((i * RATE) / SIZE)) / mel(RATE / 2))));
    const pace = samples.length / columns;
    for (let x = 0; x < columns; x++) {
      power(samples, Math.floor(x * pace), re, im);
      for (let i = 1; i < SIZE / 2; i++) {
        const at = x * BANDS + band[i], level = 10 * Math.log10(re[i] ** 2 + im[i] ** 2 + 1e-10);
        if (level > levels[at]) levels[at] = level;
      }
    }
    const top = levels.reduce((one, other) => Math.max(one, other), 0); // silence stays dark
    const shades = [[11, 13, 26], [59, 28, 98], [155, 47, 110], [238, 115, 80], [253, 238, 176]];
    for (let x = 0; x < columns; x++) for (let y = 0; y < BANDS; y++) {
      let row = y;
      while (row > 0 && levels[x * BANDS + row] === -100) row--; // a band narrower than a bin shows the one below
      const share = Math.max(0, Math.min(0.999, (levels[x * BANDS + row] - top + 70) / 70)) * 4, low = Math.floor(share);
      const at = 4 * ((BANDS - 1 - y) * columns + x);
      for (let i = 0; i < 3; i++) image.data[at + i] = shades[low][i] + (share - low) * (shades[low + 1][i] - shades[low][i]);
      image.data[at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    scope.prepend(canvas);
    player.dataset.drawn = "by script";
  };

  // Edits, differing steps and bars jump to their second.
  document.addEventListener("click", (event) => {
    const place = event.target.closest?.("[data-at]");
    if (place) around(place.closest("details.clip"), Number(place.dataset.at));
  });

  // Strips: pointer and arrow keys read a step out; a click and Enter play it.
  const kinds = { sure: "sure", risk: "at risk", tie: "flipped: tie", fault: "flipped: fault" };
  const enlivenStrip = (strip) => {
    let steps = null, at = -1;
    const scroller = strip.querySelector(".scroll"), readout = strip.querySelector(".readout");
    const pitch = Number(strip.dataset.pitch), clip = strip.closest("details.clip");
    const read = (index) => {
      steps ??= strip.dataset.steps.split("\n").map((line) => line.split("\t"));
      at = Math.max(0, Math.min(steps.length - 1, index));
      const [window_, step, choice, other, margin, movement, kind, second] = steps[at];
      const x = (at + 0.5) * pitch;
      strip.querySelector(".cursor").setAttribute("d", `M${x} 4V112`);
      readout.textContent = `${window_ !== "0" ? `window ${window_}, ` : ""}step ${step}: \u2068“${choice}”\u2069 before `
        + `\u2068“${other}”\u2069, margin ${margin}, moved ${movement}, ${kinds[kind]}${second ? `, at ${second} s` : ""}`;
      return second;
    };
    const play = (second) => { if (second) around(clip, Number(second)); };
    scroller.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && at >= 0) play(read(at));
      const move = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      read(at + move);
      scroller.scrollTo({ left: (at + 0.5) * pitch - scroller.clientWidth / 2 });
    });
    const under = (event) => Math.floor((event.clientX - event.currentTarget.getBoundingClientRect().left - 44) / pitch);
    strip.querySelector("svg").addEventListener("pointermove", (event) => { if (under(event) >= 0) read(under(event)); });
    strip.querySelector("svg").addEventListener("click", (event) => { if (under(event) >= 0) play(read(under(event))); });
  };
  const enliven = (place) => {
    all("figure.player", place).forEach(enlivenPlayer);
    all("figure.strip", place).forEach(enlivenStrip);
  };
  enliven(document);

  // Keys.
  const help = byId("help");
  byId("keys").addEventListener("click", () => help.showModal());
  const step = (places, by) => {
    const seen = places.filter((place) => place.checkVisibility());
    if (!seen.length) return null;
    const now = seen.findIndex((place) => place === document.activeElement || place.contains(document.activeElement));
    const next = seen[Math.max(0, Math.min(seen.length - 1, now < 0 ? 0 : now + by))];
    next.scrollIntoView({ block: "center" });
    return next;
  };
  const keys = {
    "/": () => byId("find").focus(),
    j: () => step(all("details.clip > summary"), 1)?.focus(),
    k: () => step(all("details.clip > summary"), -1)?.focus(),
    n: () => step(all("button.edit, button.hear"), 1)?.focus(),
    p: () => step(all("button.edit, button.hear"), -1)?.focus(),
    a: () => { allLines.checked = !allLines.checked; setLines(); },
    t: nextTheme,
    "?": () => help.showModal(),
    " ": () => {
      const clip = document.activeElement?.closest("details.clip[open]");
      const sound = clip?.querySelector("audio[src]") ?? playing;
      if (!sound) return false;
      toggle(sound);
      return true;
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target.matches("input, select, textarea, button, summary, a, audio") && (event.key === " " || !event.target.matches("button, summary, a"))) return;
    if (!(event.key in keys) || keys[event.key]() === false) return;
    event.preventDefault();
  });

  // Plots: one after the other when there is time. `ast` makes Vega interpret its expressions: the page's policy
  // forbids eval, and an expression in a hostile file would stay what it is.
  const data = JSON.parse(byId("data").textContent);
  const drawPlot = async (place) => {
    const plot = data.plots[place.dataset.plot];
    const spec = { ...data.specifications[plot.kind], datasets: { points: plot.points, rules: plot.rules } };
    place.textContent = "";
    const { view } = await vegaEmbed(place, spec, { ast: true, actions: false, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true } });
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.anchor) location.hash = item.datum.anchor;
    });
  };
  const hidden = (place) => place.closest("details:not([open])"); // there a plot would have no width
  const places = all("[data-plot]").filter((place) => !hidden(place));
  const drawn = new Set();
  const once = (place) => {
    if (drawn.has(place)) return Promise.resolve();
    drawn.add(place);
    return drawPlot(place).catch((error) => { place.textContent = `Not drawn: ${error.message}`; console.error(error); });
  };
  const next = () => {
    const place = places.shift();
    if (!place) { document.documentElement.dataset.plots = "drawn"; return; }
    once(place).then(() => setTimeout(next));
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.open) all("[data-plot]", event.target).filter((place) => !hidden(place)).forEach(once);
  }, true);
  addEventListener("load", () => { land(); next(); });
})();
