(() => {
  const tip = document.getElementById("tip");
  const show = (event) => {
    const marked = event.target.closest("[data-tip]");
    tip.style.visibility = marked ? "visible" : "hidden";
    if (marked) {
      tip.textContent = marked.dataset.tip;
      tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 10) + "px";
    }
    const unit = event.target.closest(".unit");
    for (const drawing of document.querySelectorAll(".drawing")) {
      drawing.classList.toggle("focus", unit !== null && drawing.contains(unit));
      for (const curve of drawing.querySelectorAll(".curve"))
        curve.classList.toggle("near", unit !== null && [curve.dataset.from, curve.dataset.to].includes(unit.dataset.key));
    }
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("pointerdown", show);
})();
