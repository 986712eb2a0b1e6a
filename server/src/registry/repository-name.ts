// What an image is called where container programs pull it from: `<workspace>/<image>`, in the few characters that they allow. A name
// that has others is written so that it can be read back, since two images must never be pulled under one name.

const plain = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
/** No plain name has two hyphens in a row. */
const mark = 'x--';
/** Longest that container programs take, host and all. */
const longest = 255;

/** `My Model` → `x---4d-y-204d-odel`: by turns what may stay, and the rest in hexadecimal. */
export function repositoryOf(image: string): string {
  if (plain.test(image)) return image;
  const parts = image.split(/([^a-z0-9]+)/);
  const written = parts.map((part, at) => (at % 2 === 0 ? part : Buffer.from(part).toString('hex')));
  if (written.at(-1) === '') written.pop();
  return mark + written.join('-');
}

/** The image of that name; undefined where no image can have it. */
export function imageOf(repository: string): string | undefined {
  if (!repository.startsWith(mark)) return plain.test(repository) ? repository : undefined;
  const parts = repository.slice(mark.length).split('-');
  const image = parts.map((part, at) => (at % 2 === 0 ? part : Buffer.from(part, 'hex').toString())).join('');
  return image !== '' && repositoryOf(image) === repository ? image : undefined;
}

/** `registry` is host and port. Undefined where the name is too long for a container program. */
export function locationOf(registry: string, workspace: string, image: string, version: number): string | undefined {
  const name = `${registry}/${workspace.toLowerCase()}/${repositoryOf(image)}`;
  return name.length > longest ? undefined : `${name}:${version}`;
}
