// For tests only: tar archives as an attacker, or another program, would write them. Nothing is checked here.
import { blockBytes, paddingOf } from './tar-header.ts';

export interface RawMember {
  name: string | Uint8Array;
  /** The type byte: `0` file, `1` hard link, `2` symbolic link, `3` device, `5` folder, `x` PAX, `L` GNU's long name. */
  type?: string;
  content?: string | Uint8Array;
  link?: string;
  mode?: number;
  /** The size field as text, where it is not the content's. */
  size?: string;
}

export function rawTar(...members: RawMember[]): Buffer {
  return Buffer.concat([...members.map(rawMember), Buffer.alloc(2 * blockBytes)]);
}

export function rawMember({ name, type = '0', content = '', link = '', mode = 0o644, size }: RawMember): Buffer {
  const bytes = Buffer.from(content);
  const header = Buffer.alloc(blockBytes);
  Buffer.from(name).copy(header, 0, 0, 100);
  header.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
  header.write('0001750\x000001750\0', 108);
  header.write(size ?? `${bytes.length.toString(8).padStart(11, '0')}\0`, 124, 12, 'latin1');
  header.write('14000000000\0', 136);
  header.write(type, 156, 'latin1');
  header.write(link, 157, 100, 'utf8');
  header.write('ustar\x0000', 257);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc(paddingOf(bytes.length))]);
}

export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of source) all.push(one);
  return all;
}
