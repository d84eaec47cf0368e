/** From package.json. */
declare const __VERSION__: string;
