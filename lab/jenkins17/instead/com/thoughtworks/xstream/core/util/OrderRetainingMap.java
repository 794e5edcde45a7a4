package com.thoughtworks.xstream.core.util;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * XStream's own keeps the order in a list that its put() fills, and counts on HashMap's constructor and putAll() calling put().
 * Since Java 8 they do not: the list stays empty, and Jenkins finds none of its converters. LinkedHashMap keeps the order itself.
 */
@SuppressWarnings({"rawtypes", "unchecked", "serial"})
public class OrderRetainingMap extends LinkedHashMap {
    public OrderRetainingMap() {
    }

    public OrderRetainingMap(Map entries) {
        super(entries);
    }
}
