"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const BAR = 26; // pixels of the mode bar
  const PRINTED = 680; // pixels between the margins of A4
  // colours that are dark on white must be bright on black: lines, the ends and the middle of scales
  const BRIGHT = {
    "#0072b2": "#4ba6e3", "#d55e00": "#f0853a", "#009e73": "#2fbf95", "#555555": "#aab2ba", "#ffffff": "#15181c",
    "#5fb0e5": "#1c6599", "#1c2126": "#e4e7ea", "#2166ac": "#6db3f2", "#92c5de": "#2f5d80", "#f4a582": "#85452f", "#b2182b": "#ff8b78",
  };
  const COLOURS = new Set(["color", "fillcolor", "bgcolor", "bordercolor", "colorscale"]);
  const look = (ink, quiet, rule, paper, soft) => {
    const axis = {
      color: quiet, gridcolor: rule, linecolor: rule, zerolinecolor: rule, tickcolor: rule, zerolinewidth: 1, gridwidth: 1,
      automargin: true, title: { standoff: 10, font: { size: 13, color: ink } }, tickfont: { size: 11 },
    };
    return { layout: {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: touch ? false : "zoom",
      xaxis: { ...axis, showspikes: false }, yaxis: { ...axis },
      hoverlabel: { bgcolor: paper, bordercolor: rule, font: { color: ink, size: 12 }, align: "left" },
      legend: { font: { size: 12 }, bgcolor: "rgba(0,0,0,0)" }, coloraxis: { colorbar: { tickfont: { size: 11 }, outlinewidth: 0 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink },
      updatemenudefaults: { bgcolor: soft, bordercolor: rule, borderwidth: 1, font: { color: ink, size: 12 } },
      sliderdefaults: { bgcolor: quiet, bordercolor: rule, activebgcolor: quiet, currentvalue: { font: { color: ink } }, font: { color: quiet } },
    } };
  };
  const LOOKS = {
    light: look("#1c2126", "#58626c", "#e3e7eb", "#ffffff", "#f5f7f9"),
    dark: look("#e4e7ea", "#a3adb7", "#2c3239", "#15181c", "#1d2126"),
  };
  const TYPES = {
    i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array,
  };
  const figures = [...document.querySelectorAll(".plot")].map((box, number) => ({ box, number, drawn: null }));

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

  // an array stored outside the figures, as one typed array, or one per row
  const unpacked = ({ array, dtype, shape, step, middle }) => {
    let values = new TYPES[dtype](bytes(document.getElementById(`array-${array}`).textContent));
    if (step !== undefined) values = Float32Array.from(values, (whole) => (whole === -32768 ? NaN : whole * step + middle));
    const sizes = shape ? String(shape).split(",").map(Number) : [values.length];
    if (sizes.length < 2) return values;
    const width = sizes[1];
    return Array.from({ length: sizes[0] }, (_, row) => values.subarray(row * width, (row + 1) * width));
  };
  const whole = (value) => {
    if (Array.isArray(value)) return value.map(whole);
    if (value === null || typeof value !== "object") return value;
    if ("array" in value && "dtype" in value) return unpacked(value);
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, whole(inner)]));
  };

  const themed = (value, bright, key = "") => {
    if (typeof value === "string") return (bright && COLOURS.has(key) && BRIGHT[value]) || value;
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    if (Array.isArray(value)) {
      const coloured = COLOURS.has(key) || typeof value[0] === "object";
      return coloured ? value.map((inner) => themed(inner, bright, key)) : value;
    }
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, themed(inner, bright, name)]));
  };

  // lay out panels in columns, or stacked on a narrow screen; returns the total height in pixels
  const arrange = (layout, panels, one) => {
    const columns = one ? 1 : panels.columns, rows = Math.ceil(panels.count / columns);
    const inner = Math.max(1, rows * panels.cell + (rows - 1) * panels.gap);
    const width = (1 - panels.across * (columns - 1)) / columns;
    const name = (letter, number) => `${letter}axis${number === 1 ? "" : number}`;
    for (let cell = 0; cell < panels.count; cell++) {
      const left = (cell % columns) * (width + panels.across);
      const top = 1 - (Math.floor(cell / columns) * (panels.cell + panels.gap)) / inner, height = panels.cell / inner;
      layout[name("x", cell + 1)].domain = [left, Math.min(1, left + width)];
      panels.parts.forEach(([low, high], part) => {
        const axis = layout[name("y", cell * panels.parts.length + part + 1)];
        axis.domain = [Math.max(0, top - height * (1 - low)), Math.min(1, top - height * (1 - high))];
      });
    }
    return inner + panels.top + panels.bottom;
  };

  const picture = (figure, printing) => {
    const bright = dark.matches && !printing, one = narrow.matches && !printing;
    const layout = themed(figure.spec.layout, bright), panels = layout.meta && layout.meta.panels;
    let height = panels ? arrange(layout, panels, one) : Number(figure.box.dataset.tall);
    if (touch && !printing) { // the mode bar is always visible
      height += BAR;
      layout.margin = { ...layout.margin, t: layout.margin.t + BAR };
    }
    figure.box.style.height = `${height}px`;
    Object.assign(layout, { template: LOOKS[bright ? "dark" : "light"], uirevision: "kept", height, autosize: !printing });
    if (printing) layout.width = PRINTED;
    return { data: themed(figure.spec.data, bright), layout };
  };
  const CONFIG = {
    displaylogo: false, displayModeBar: touch ? true : "hover", responsive: true, doubleClick: "reset", showTips: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toggleSpikelines", "sendChartToCloud", ...(touch ? ["toImage", "pan2d"] : [])], plotlyServerURL: "",
  };

  const draw = (figure, printing = false) => {
    figure.spec ??= whole(JSON.parse(document.getElementById(`spec-${figure.number}`).textContent));
    const { data, layout } = picture(figure, printing);
    if (figure.drawn) {
      const { frames } = figure.spec, shown = figure.box.data;
      if (frames && shown) data.forEach((trace, place) => { trace.z = shown[place].z; }); // an animation keeps its frame
      return Plotly.react(figure.box, data, layout, CONFIG);
    }
    figure.drawn = true;
    figure.box.textContent = "";
    return Plotly.newPlot(figure.box, { data, layout, frames: figure.spec.frames, config: CONFIG }).then(() => {
      figure.box.dataset.drawn = "yes";
    });
  };
  const again = (printing) => figures.filter((figure) => printing || figure.drawn).forEach((figure) => draw(figure, printing));

  // keyboard control: space plays and stops, the arrow keys step forwards and back
  const playing = new WeakSet();
  const keyboard = (figure) => figure.box.addEventListener("keydown", (event) => {
    if (!figure.spec || !figure.spec.frames) return;
    const slider = figure.box.layout.sliders[0], last = slider.steps.length - 1, at = slider.active || 0;
    const go = (place) => Plotly.animate(figure.box, [slider.steps[place].args[0][0]], slider.steps[place].args[1]);
    if (event.key === "ArrowRight") go(Math.min(last, at + 1));
    else if (event.key === "ArrowLeft") go(Math.max(0, at - 1));
    else if (event.key === " ") {
      const buttons = figure.box.layout.updatemenus[0].buttons, stop = playing.has(figure.box);
      if (stop) playing.delete(figure.box); else playing.add(figure.box);
      Plotly.animate(figure.box, ...buttons[stop ? 1 : 0].args).then(() => playing.delete(figure.box), () => {});
    } else return;
    event.preventDefault();
  });
  figures.forEach(keyboard);

  if (figures.length) {
    const near = new IntersectionObserver((seen) => {
      for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(figures.find((f) => f.box === one.target)); }
    }, { rootMargin: "500px 0px" });
    // boxes take their final height before they are drawn, so that links lead to the right place
    for (const figure of figures) {
      const text = document.getElementById(`spec-${figure.number}`).textContent;
      const found = narrow.matches && text.match(/"meta":(\{"panels":\{.*?\}\})/);
      if (found) {
        const panels = JSON.parse(found[1]).panels;
        figure.box.style.height = `${panels.count * (panels.cell + panels.gap) - panels.gap + panels.top + panels.bottom}px`;
      }
      near.observe(figure.box);
    }
    const change = () => again(false);
    dark.addEventListener("change", change);
    narrow.addEventListener("change", change);
    addEventListener("beforeprint", () => again(true));
    addEventListener("afterprint", () => again(false));
  }

  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  if (links.size) {
    const chapters = [...links.keys()].map((id) => document.getElementById(id));
    const mark = () => {
      const here = chapters.filter((c) => c.getBoundingClientRect().top < innerHeight * 0.35).pop() || chapters[0];
      for (const [id, link] of links) {
        if (id === here.id) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      }
    };
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  }
})();
