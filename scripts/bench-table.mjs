// Makes target/bench.json of the rows that benchmarks printed, keeping earlier rows of benchmarks that did not run now, and prints them.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const [rowsFile, jsonFile] = process.argv.slice(2);
const rows = readFileSync(rowsFile, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const earlier = existsSync(jsonFile) ? JSON.parse(readFileSync(jsonFile, "utf8")) : [];
const names = new Set(rows.map((row) => row.name));
const all = [...earlier.filter((row) => !names.has(row.name)), ...rows];
writeFileSync(jsonFile, `${JSON.stringify(all, null, 2)}\n`);

const figure = (value) => (typeof value === "number" ? String(Math.round(value * 100) / 100) : "-");
const asked = ({ reach, at_least: atLeast }) => (typeof reach === "number" ? `${atLeast ? "at least" : "at most"} ${figure(reach)}` : "-");
const cells = rows.map((row) => [
    row.name,
    asked(row),
    `${figure(row.value)} ${row.unit}`,
    `${figure(row.reference_value)} (${row.reference})`,
    row.reached ? "reached" : "NOT REACHED",
]);
const table = [["figure", "asked", "measured", "reference", ""], ...cells];
const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
for (const row of table) {
    console.log(row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd());
}
