"""How the page looks. Its fonts are the system's: nothing is fetched from anywhere."""

CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto !important; }
#title h1 { margin: 0; font-size: 1.6rem; }
#title p { margin: .2rem 0 0; color: var(--body-text-color-subdued); }
.problem { border-left: 4px solid #d92d20; border-radius: 6px; padding: .6rem .8rem; }
.problem { background: #fef3f2; color: #7a271a; }
.dark .problem { background: #3b1411; color: #fecdca; }
.shown img { max-height: 440px; object-fit: contain; }
.note { margin: .5rem 0 0; font-size: .85rem; color: var(--body-text-color-subdued); }
h3.over { margin: .8rem 0 .2rem; font-size: 1rem; overflow-wrap: anywhere; }
table.figures { width: 100%; margin: 0; border: 0 !important; border-collapse: collapse; font-size: .95rem; }
table.figures th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--body-text-color-subdued); }
table.figures tr, table.figures th, table.figures td { border: 0 !important; }
table.figures tr { border-bottom: 1px solid var(--border-color-primary) !important; }
table.figures th, table.figures td { padding: .3rem .4rem; }
table.figures th span { color: inherit; font: inherit; }
table.figures td { overflow-wrap: break-word; }
.swatch { display: inline-block; width: 1rem; height: 1rem; border-radius: 4px; vertical-align: -2px; }
.swatch.untinted { border: 1px dashed var(--body-text-color-subdued); }
.measure { display: flex; align-items: center; gap: .6rem; }
.bar { flex: 1; min-width: 2rem; height: .5rem; border-radius: .25rem; overflow: hidden; }
.bar { background: var(--border-color-primary); }
.bar > span { display: block; height: 100%; background: var(--color-accent); }
.number { min-width: 3.6rem; text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 760px) { /* on a phone the results come before the settings */
  .inputs { display: contents !important; }
  .inputs > * { flex: 1 1 100% !important; }
  .results { order: 1; }
  .settings { order: 2; }
  #image { height: 180px !important; }
  #title h1 { font-size: 1.3rem; }
}
.absent { color: var(--body-text-color-subdued); }
"""
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
SYSTEM_MONO_FONTS = ("ui-monospace", "Consolas", "monospace")
