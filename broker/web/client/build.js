// Builds dist/greenroom.js and dist/greenroom.d.ts, and puts them where the server has them.
// `--check`: only tells whether those there are what would be built. `--tests`: builds the tests.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const MOST_GZIPPED_BYTES = 6144; // what is as big or bigger is refused
const NAMES = ["greenroom.js", "greenroom.d.ts"];

process.chdir(fileURLToPath(new URL(".", import.meta.url)));

async function buildModule() {
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  await build({
    entryPoints: ["src/index.ts"],
    outfile: "dist/greenroom.js",
    bundle: true,
    format: "esm",
    minify: true,
    target: "es2022",
    banner: { js: `/* greenroom-client ${version} | MIT */` },
  });
  const size = gzipSync(readFileSync("dist/greenroom.js"), { level: 9 }).length;
  console.log(`greenroom.js: ${readFileSync("dist/greenroom.js").length} bytes, ${size} bytes gzipped`);
  if (size >= MOST_GZIPPED_BYTES) throw new Error(`greenroom.js must be below ${MOST_GZIPPED_BYTES} bytes gzipped`);
}

/** The public types need no imports, so the declarations of two files make the whole. */
function buildTypes() {
  const files = ["src/types.ts", "src/connect.ts"];
  const options = "--ignoreConfig --declaration --emitDeclarationOnly --module nodenext --target es2022 --lib es2022 --types node";
  execFileSync("node_modules/.bin/tsc", [...files, ...options.split(" "), "--strict", "--outDir", "dist/types"], {
    stdio: "inherit",
  });
  const parts = ["types", "connect"].map((name) => readFileSync(`dist/types/${name}.d.ts`, "utf8"));
  rmSync("dist/types", { recursive: true });
  writeFileSync("dist/greenroom.d.ts", parts.join("").replace(/^import .*\n/gm, ""));
}

async function buildTests() {
  rmSync(".tests", { recursive: true, force: true });
  await build({
    entryPoints: readdirSync("tests").filter((name) => name.endsWith(".test.ts")).map((name) => join("tests", name)),
    outdir: ".tests",
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    target: "node18",
    sourcemap: "inline",
  });
}

if (process.argv.includes("--tests")) {
  await buildTests();
} else {
  mkdirSync("dist", { recursive: true });
  await buildModule();
  buildTypes();
  for (const name of NAMES) {
    if (!process.argv.includes("--check")) copyFileSync(join("dist", name), join("..", name));
    else if (readFileSync(join("dist", name), "utf8") !== readFileSync(join("..", name), "utf8")) {
      throw new Error(`broker/web/${name} is not what its source makes: run "make web" and commit it`);
    }
  }
}
