// Bundles src/main.tsx and its styles with esbuild, and writes the page that names them.
//   bundle.mjs OUT
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

const out = process.argv[2];
const assets = join(out, "assets");
await rm(assets, { recursive: true, force: true });
await mkdir(assets, { recursive: true });

const result = await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: assets,
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  metafile: true,
  legalComments: "eof",
});

const icon = await readFile("src/icon.svg");
const iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
await copyFile("src/icon.svg", join(assets, iconName));

const files = Object.keys(result.metafile.outputs).map((path) => basename(path));
const script = files.find((name) => name.endsWith(".js"));
const style = files.find((name) => name.endsWith(".css"));
const page = (await readFile("src/index.html", "utf8"))
  .replace("{{script}}", `/assets/${script}`)
  .replace("{{style}}", `/assets/${style}`)
  .replace("{{icon}}", `/assets/${iconName}`);
await writeFile(join(out, "index.html"), page);
