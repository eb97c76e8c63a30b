/**
 * The bridge to the `ndarray` package. An `ndarray` is an `NdView` as it is; this wraps the other way.
 *
 * @module ndarray
 */

import ndarray, { type Data, type NdArray } from 'ndarray';
import type { NdView, TypedArray } from './nd.js';

/**
 * Wraps a view as an `ndarray`, without a copy.
 *
 * @param view - any rank; the result shares its memory, strides and offset
 */
export function toNdarray<T extends TypedArray & Data>(view: NdView<T>): NdArray<T> {
  return ndarray(view.data, [...view.shape], [...view.stride], view.offset);
}
