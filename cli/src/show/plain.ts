// Text from the server, made harmless for a terminal: names, tags and messages are written by other people.

/** Escape sequences as a whole: CSI, OSC and the like, two-character ones. */
const sequences =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  /[\u001b\u009b](?:\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|\[?[0-?]*[ -/]*[@-~])/g;
/** Control characters, and those that turn the direction of what follows. */
const controls = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is kept
const colour = /^\u001b\[[\d;:]*m$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is removed
const loneEscape = /\u001b(?!\[[\d;:]*m)/g;

/** On one line, unless `lines`. */
export function plain(text: string, { lines = false } = {}): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(sequences, '')
    .replace(controls, (character) => {
      if (character === '\n') return lines ? '\n' : ' ';
      return character === '\t' ? ' ' : '';
    });
}

/** A log for a terminal: colours and carriage returns stay, everything else that would steer the terminal goes. */
export function plainLog(text: string): string {
  return text
    .replace(sequences, (sequence) => (colour.test(sequence) ? sequence : ''))
    .replace(controls, (character) => ('\n\r\t\u001b'.includes(character) ? character : ''))
    .replace(loneEscape, '');
}
