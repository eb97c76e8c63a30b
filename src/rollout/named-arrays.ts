import { describe, isNd, isTypedArray, type NdView, type TypedArray } from '../nd.js';

/** Arrays by name, in objects of any depth; what is undefined is not there. */
export type NestedArrays = {
  readonly [name: string]: NdView<TypedArray> | TypedArray | NestedArrays | undefined;
};

/** Arrays by name, as `writeNpz` and `writeSafetensors` take them. */
export type NamedArrays = Record<string, NdView<TypedArray> | TypedArray>;

/**
 * Arrays of nested objects under joined names, for files that know one level: `{ next: { reward } }`
 * becomes `{ 'next.reward': reward }`, as TensorDict's `flatten_keys` names it.
 *
 * @param arrays - views and typed arrays, not copied
 * @returns an object without a prototype
 * @throws TypeError when a value is neither an array nor an object of them, or a name contains a dot
 *
 * @example
 * ```ts
 * await writeFile('dream.npz', writeNpz(flattenArrays(toTorchRl(trajectory))));
 * // TensorDict(dict(numpy.load('dream.npz')), [rows, horizon]).unflatten_keys('.')
 * ```
 */
export function flattenArrays(arrays: object): NamedArrays {
  expectNamed('flattenArrays', arrays);
  // Without a prototype, every name is a name.
  const flat: NamedArrays = Object.create(null);
  flattenInto(flat, '', arrays);
  return flat;
}

/**
 * Arrays under joined names as nested objects: what {@link flattenArrays} came from.
 *
 * @param arrays - by name, such as `readNpz` gives them
 * @returns objects without prototypes
 * @throws TypeError when a value is no array, or a name is both an array and the beginning of another
 */
export function unflattenArrays(
  arrays: Readonly<Record<string, NdView<TypedArray> | TypedArray | undefined>>,
): NestedArrays {
  expectNamed('unflattenArrays', arrays);
  const nested: Record<string, unknown> = Object.create(null);
  for (const [name, array] of Object.entries(arrays)) {
    if (array === undefined) continue;
    if (!isArray(array)) {
      throw new TypeError(
        `unflattenArrays: ${name} must be a view or a typed array, got ${describe(array)}`,
      );
    }
    const path = name.split('.');
    let place = nested;
    for (const part of path.slice(0, -1)) {
      place[part] ??= Object.create(null);
      place = place[part] as Record<string, unknown>;
      if (isArray(place)) throw clash(name);
    }
    const last = path[path.length - 1];
    if (place[last] !== undefined) throw clash(name);
    place[last] = array;
  }
  return nested as NestedArrays;
}

function flattenInto(flat: NamedArrays, prefix: string, arrays: object): void {
  for (const [name, value] of Object.entries(arrays) as [string, unknown][]) {
    if (value === undefined) continue;
    if (name.includes('.')) {
      throw new TypeError(
        `flattenArrays: names must not contain dots, which join them, got '${name}'`,
      );
    }
    if (isArray(value)) flat[prefix + name] = value;
    else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      flattenInto(flat, `${prefix}${name}.`, value);
    } else {
      throw new TypeError(
        `flattenArrays: ${prefix}${name} must be a view, a typed array or an object of them, ` +
          `got ${describe(value)}`,
      );
    }
  }
}

function expectNamed(what: string, arrays: unknown): void {
  if (typeof arrays !== 'object' || arrays === null || isArray(arrays)) {
    throw new TypeError(
      `${what}: arrays must be an object of arrays by name, got ${describe(arrays)}`,
    );
  }
}

function isArray(value: unknown): value is NdView<TypedArray> | TypedArray {
  return isNd(value) || isTypedArray(value);
}

function clash(name: string): TypeError {
  return new TypeError(
    `unflattenArrays: a name must not be an array and the beginning of another, got '${name}'`,
  );
}
